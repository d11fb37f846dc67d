// Binds a Unix datagram socket at argv[1] ('@': abstract), says so, and prints the first datagram.

#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int argc, char** argv) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  char text[4096];
  if (argc != 2) return 2;
  size_t length = strlen(argv[1]);
  memcpy(address.sun_path, argv[1], length);
  if (argv[1][0] == '@') address.sun_path[0] = 0;
  int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
  if (bind(fd, (struct sockaddr*)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)) < 0) return 1;
  puts("bound");
  fflush(stdout);
  ssize_t received = recv(fd, text, sizeof text, 0);
  return received < 0 || write(1, text, (size_t)received) < 0;
}
