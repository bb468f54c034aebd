// What the operator's guide says of a problem, by the title of its section: sentences from there, and
// the command that fixes it or shows the cause. A test compares them with docs/operations.rst.
export const GUIDE = {
  "A disk is full": ["Free space, and it goes on.", "df -h $LOCAL_DATA"],
  "A local copy is damaged": ["A copy that is being written goes aside, whole, and the worker releases its lock.", "trough-admin aside"],
  "A process does not start": ["Its last line gives the reason, and the status is 1.", "journalctl -u trough-sync -u trough-worker"],
  "A table has too few replicas": ["There should be three replicas, if there are as many servers.", "trough-admin status"],
  "A worker dies": ["Start it again. Nothing else is needed: what it had not promoted is still there.", "systemctl start trough-worker"],
  "Clocks": ["RethinkDB's servers decide by their clocks which workers live, so NTP has to run on each of them.", "timedatectl"],
  "HDFS is away": ["Reads and writes go on, but for cold segments that are in no cache.", "hdfs dfsadmin -report"],
  "No cold worker lives": ["Start a cold worker again: it needs no data of its own.", "systemctl start trough-worker"],
  "Promotions fail": ["Promotions go on by themselves once the cause is gone.", "journalctl -u trough-worker"],
  "Provisionings are refused": ["A sync server logs the reason, once a minute, with the number of refusals.", "journalctl -u trough-sync"],
  "RethinkDB refuses the user": ["The log of every process that starts has the reason, and trough-admin status shows it and exits with 1.", "trough-admin rethinkdb-users"],
  "RethinkDB is gone altogether": ["Workers serve what they hold, reads and writes, also of segments that another worker writes.", "systemctl start rethinkdb"],
  "Segments have too few copies": ["A worker was missing for longer than MOVE_GRACE, and other workers have not yet made all of its copies.", "trough-admin workers"],
  "The leader dies or hangs": ["Another one leads after at most four ELECTION_CYCLE, and the generation grows by one.", "systemctl start trough-sync"],
  "The leader's rounds fail": ["Fix the cause, and the next round goes on.", "journalctl -u trough-sync"],
  "Very many segments are missing": ["Check whether the right storage is mounted and whole.", "trough-admin status"],
  "What is aside": ["Trough never deletes or merges anything in there by itself.", "trough-admin aside"],
  "Writes are refused": ["A worker logs the reason, once a minute, with the number of refusals.", "journalctl -u trough-worker"],
  "Writes have too few copies": ["Writes go on meanwhile, but the loss of one more disk can lose them.", "trough-admin locks --without-follower"],
};

// The entry for a section, of which a text may have the beginning of the title only.
export function guideTo(section) {
  const [sentence, command] = GUIDE[section] || ["", ""];
  return {sentence, command};
}
