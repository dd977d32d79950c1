/*
 * Reading lines of `verb positional... key=value...`: those of the shared table, and those that
 * kvroute-ffi/examples/flatten.rs writes.
 */
#ifndef LINES_H
#define LINES_H

#include "check.h"

#define MAX_WORDS 64

/* A line, cut at its spaces in place. */
typedef struct words {
  char *word[MAX_WORDS];
  size_t len;
} words;

static inline void *room(size_t count, size_t size) {
  void *memory = calloc(count + 1, size);
  REQUIRE(memory != NULL);
  return memory;
}

/* A whole file with a NUL behind it; to be freed. */
static inline char *read_file(const char *path) {
  FILE *file = fopen(path, "rb");
  char *text = NULL;
  size_t len = 0, capacity = 0, got;
  if (file == NULL) {
    fprintf(stderr, "%s cannot be opened\n", path);
    exit(1);
  }
  do {
    capacity = capacity * 2 + (1 << 16);
    text = realloc(text, capacity + 1);
    REQUIRE(text != NULL);
    got = fread(text + len, 1, capacity - len, file);
    len += got;
  } while (len == capacity);
  fclose(file);
  text[len] = 0;
  return text;
}

/* The next line of a text, ended by a NUL in place; NULL at the end. */
static inline char *next_line(char **rest) {
  char *line = *rest, *end = strchr(line, '\n');
  if (*line == 0) {
    return NULL;
  }
  if (end == NULL) {
    *rest = line + strlen(line);
  } else {
    *end = 0;
    *rest = end + 1;
  }
  return line;
}

static inline words split(char *line) {
  words found = {{NULL}, 0};
  char *at = line;
  while (*at != 0) {
    REQUIRE(found.len < MAX_WORDS);
    found.word[found.len++] = at;
    at += strcspn(at, " ");
    if (*at == ' ') {
      *at++ = 0;
    }
  }
  return found;
}

/* What stands behind `key=`; NULL if it does not. */
static inline char *optional(const words *line, const char *key) {
  size_t at, len = strlen(key);
  for (at = 0; at < line->len; ++at) {
    if (strncmp(line->word[at], key, len) == 0 && line->word[at][len] == '=') {
      return line->word[at] + len + 1;
    }
  }
  return NULL;
}

static inline char *needed(const words *line, const char *key) {
  char *value = optional(line, key);
  if (value == NULL) {
    fprintf(stderr, "%s: %s= is missing\n", line->word[0], key);
    exit(1);
  }
  return value;
}

static inline uint64_t number(const char *text) {
  char *end;
  uint64_t value = strtoull(text, &end, 10);
  /* The end of the text is in it too. */
  REQUIRE(end != text && strchr(":,.+", *end) != NULL);
  return value;
}

/* How many parts a list has; the empty one has none. */
static inline size_t parts(const char *text, char separator) {
  size_t count = *text != 0;
  for (; *text != 0; ++text) {
    count += *text == separator;
  }
  return count;
}

/* Decimal numbers separated by commas; to be freed. */
static inline uint64_t *numbers(const char *text, size_t *len) {
  uint64_t *values;
  size_t at;
  *len = parts(text, ',');
  values = room(*len, sizeof *values);
  for (at = 0; at < *len; ++at) {
    values[at] = number(text);
    text += strcspn(text, ",") + 1;
  }
  return values;
}

/* Token ids as a list of numbers; to be freed. */
static inline uint32_t *token_list(const char *text, size_t *len) {
  uint64_t *values = numbers(text, len);
  uint32_t *tokens = room(*len, sizeof *tokens);
  size_t at;
  for (at = 0; at < *len; ++at) {
    tokens[at] = (uint32_t)values[at];
  }
  free(values);
  return tokens;
}

static inline unsigned digit(char letter) {
  const char *digits = "0123456789abcdef", *at = strchr(digits, letter);
  REQUIRE(letter != 0 && at != NULL);
  return (unsigned)(at - digits);
}

/* Hexadecimal digits up to a comma, colon or the end, turned into bytes in place; "-" is none. */
static inline kvroute_bytes bytes_of(char *text) {
  size_t len = strcspn(text, ",:"), at;
  kvroute_bytes bytes = {(const uint8_t *)text, len / 2};
  if (text[0] == '-') {
    bytes.len = 0;
    return bytes;
  }
  REQUIRE(len % 2 == 0);
  for (at = 0; at < len / 2; ++at) {
    ((uint8_t *)text)[at] = (uint8_t)(digit(text[2 * at]) << 4 | digit(text[2 * at + 1]));
  }
  return bytes;
}

/* The same as text; of a key that was not given all zero. */
static inline kvroute_str text_of(char *text) {
  kvroute_str view = {NULL, 0};
  if (text != NULL) {
    kvroute_bytes bytes = bytes_of(text);
    view.data = (const char *)bytes.data;
    view.len = bytes.len;
  }
  return view;
}

/* The options of the hasher that a line of flatten.rs describes. */
static inline kvroute_hasher_options hasher_options_of(const words *line) {
  kvroute_hasher_options options = KVROUTE_INIT(kvroute_hasher_options);
  char *none_hash = optional(line, "none_hash");
  options.scheme = (int32_t)number(needed(line, "scheme"));
  options.block_size = (uint32_t)number(needed(line, "block_size"));
  options.algorithm = text_of(optional(line, "algorithm"));
  options.version = text_of(optional(line, "version"));
  options.model = text_of(optional(line, "model"));
  options.seed = text_of(optional(line, "seed"));
  options.has_seed = optional(line, "seed") != NULL;
  if (none_hash != NULL) {
    options.none_hash = bytes_of(none_hash);
  }
  return options;
}

#endif
