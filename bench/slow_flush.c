/* Delays each fsync and fdatasync of a process by MICROSECONDS: a disk that takes so long, and that
 * no other process keeps busy. slow_flush.py builds it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <unistd.h>

int fsync(int descriptor)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    usleep(MICROSECONDS);
    return real(descriptor);
}

int fdatasync(int descriptor)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    usleep(MICROSECONDS);
    return real(descriptor);
}
