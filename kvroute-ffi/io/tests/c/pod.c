/*
 * A pod that is not there: answers what a real vLLM 0.32 did when it was asked what it is and how busy it is. Says its URL
 * on the first line, and then answers one connection after the other until it is killed, or ten minutes are over.
 *
 *   pod FOLDER      FOLDER has models.json, version.json and metrics.txt
 */
#define _POSIX_C_SOURCE 200809L
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define MAX_BODY (1 << 20)

static char body[MAX_BODY];

static void give_up(const char *what) {
  perror(what);
  exit(1);
}

/* The length of the file that a path is answered with; -1 if there is none. */
static long answer(const char *folder, const char *request) {
  static const char *const FILES[][2] = {{"GET /v1/models ", "models.json"},
                                         {"GET /version ", "version.json"},
                                         {"GET /metrics ", "metrics.txt"}};
  size_t at;
  for (at = 0; at < sizeof FILES / sizeof *FILES; ++at) {
    if (strncmp(request, FILES[at][0], strlen(FILES[at][0])) == 0) {
      char path[4096];
      FILE *file;
      long len;
      snprintf(path, sizeof path, "%s/%s", folder, FILES[at][1]);
      file = fopen(path, "rb");
      if (file == NULL) give_up(path);
      len = (long)fread(body, 1, sizeof body, file);
      fclose(file);
      return len;
    }
  }
  return -1;
}

static void send_all(int connection, const char *bytes, size_t len) {
  while (len > 0) {
    ssize_t sent = send(connection, bytes, len, MSG_NOSIGNAL);
    if (sent <= 0) return;
    bytes += sent;
    len -= (size_t)sent;
  }
}

static void serve(int connection, const char *folder) {
  char request[8192], head[256];
  size_t len = 0;
  long found;
  request[0] = 0;
  while (strstr(request, "\r\n\r\n") == NULL) {
    ssize_t got = recv(connection, request + len, sizeof request - 1 - len, 0);
    if (got <= 0) return;
    len += (size_t)got;
    request[len] = 0;
  }
  found = answer(folder, request);
  snprintf(head, sizeof head, "HTTP/1.1 %s\r\ncontent-length: %ld\r\nconnection: close\r\n\r\n",
           found < 0 ? "404 Not Found" : "200 OK", found < 0 ? 0 : found);
  send_all(connection, head, strlen(head));
  if (found > 0) send_all(connection, body, (size_t)found);
}

int main(int count, char **arguments) {
  struct sockaddr_in address;
  socklen_t size = sizeof address;
  /* Nobody can hold it up: a connection that says nothing is dropped. */
  const struct timeval patience = {2, 0};
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  if (count != 2) {
    fprintf(stderr, "usage: pod FOLDER\n");
    return 2;
  }
  alarm(600);
  memset(&address, 0, sizeof address);
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (listener < 0 || bind(listener, (struct sockaddr *)&address, size) != 0) give_up("bind");
  if (listen(listener, 64) != 0 || getsockname(listener, (struct sockaddr *)&address, &size) != 0) {
    give_up("listen");
  }
  printf("http://127.0.0.1:%d\n", ntohs(address.sin_port));
  fflush(stdout);
  for (;;) {
    int connection = accept(listener, NULL, NULL);
    if (connection < 0) continue;
    setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    serve(connection, arguments[1]);
    close(connection);
  }
}
