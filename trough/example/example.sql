-- What production crawlers feed: one segment a crawl job, one row a capture.
CREATE TABLE crawled_url (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    timestamp DATETIME,
    status_code INTEGER,
    size BIGINT,
    payload_size BIGINT,
    url VARCHAR(4000),
    hop_path VARCHAR(255),
    is_seed_redirect INTEGER(1),
    via VARCHAR(255),
    mimetype VARCHAR(255),
    content_digest VARCHAR(255),
    seed VARCHAR(4000),
    is_duplicate INTEGER(1),
    warc_filename VARCHAR(255),
    warc_offset VARCHAR(255),
    warc_content_bytes BIGINT,
    host VARCHAR(255)
);
CREATE TABLE uncrawled_url (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    timestamp DATETIME,
    url VARCHAR(4000),
    hop_path VARCHAR(255),
    status_code INTEGER,
    via VARCHAR(255),
    seed VARCHAR(4000),
    host VARCHAR(255)
);
