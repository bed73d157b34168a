// Four writers through MAP_SHARED, interleaved by 37 bytes, and one that extends the file ahead of them. Called by mmap.sh.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WRITERS = 4, STRIPE = 37, STEP = 1 << 20, STEPS = 10 };

static void must(int good, const char *what) {
  if (!good) {
    perror(what);
    exit(1);
  }
}

static unsigned char at(off_t offset) { return (unsigned char)(1 + offset / STRIPE * 31 % 250); }

static unsigned char *map(int fd, off_t start) {
  void *p = mmap(NULL, STEP, PROT_READ | PROT_WRITE, MAP_SHARED, fd, start);
  must(p != MAP_FAILED, "mmap");
  return p;
}

static void write_stripes(const char *path, int who) {
  int fd = open(path, O_RDWR);
  must(fd >= 0, "open");
  for (off_t start = 0; start < (off_t)STEP * STEPS; start += STEP) {
    while (lseek(fd, 0, SEEK_END) < start + STEP) usleep(2000);
    unsigned char *p = map(fd, start);
    for (off_t i = 0; i < STEP; i++)
      if ((start + i) / STRIPE % WRITERS == who) p[i] = at(start + i);
    if (start / STEP % 3 == who % 3) must(msync(p, STEP, MS_SYNC) == 0, "msync");
    must(munmap(p, STEP) == 0, "munmap");
  }
  must(close(fd) == 0, "close");
}

static void verify(const char *path, int mapped) {
  static unsigned char bytes[STEP];
  int fd = open(path, O_RDWR);
  must(fd >= 0, "open");
  for (off_t start = 0; start < (off_t)STEP * STEPS; start += STEP) {
    if (mapped) {
      unsigned char *p = map(fd, start);
      memcpy(bytes, p, STEP);
      munmap(p, STEP);
    } else {
      must(pread(fd, bytes, STEP, start) == STEP, "pread");
    }
    for (off_t i = 0; i < STEP; i++)
      if (bytes[i] != at(start + i)) {
        fprintf(stderr, "byte %lld is %d, not %d (mapped: %d)\n", (long long)(start + i), bytes[i], at(start + i), mapped);
        exit(1);
      }
  }
  must(lseek(fd, 0, SEEK_END) == (off_t)STEP * STEPS, "size");
  close(fd);
}

int main(int argc, char **argv) {
  if (argc == 3 && strcmp(argv[1], "--verify") == 0) {
    verify(argv[2], 0);
    verify(argv[2], 1);
    return 0;
  }
  int fd = open(argv[1], O_RDWR | O_CREAT | O_EXCL, 0600);
  must(fd >= 0, "create");
  for (int who = 0; who < WRITERS; who++) {
    pid_t child = fork();
    must(child >= 0, "fork");
    if (child == 0) {
      write_stripes(argv[1], who);
      return 0;
    }
  }
  for (off_t end = STEP; end <= (off_t)STEP * STEPS; end += STEP) {
    must(ftruncate(fd, end) == 0, "ftruncate");
    usleep(30000);
  }
  for (int who = 0; who < WRITERS; who++) {
    int status = 0;
    must(wait(&status) > 0 && status == 0, "a writer");
  }
  must(fsync(fd) == 0 && close(fd) == 0, "fsync");
  verify(argv[1], 0);
  verify(argv[1], 1);
  return 0;
}
