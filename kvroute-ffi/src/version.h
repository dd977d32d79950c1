/// Version of this header.
#define KVROUTE_VERSION "@VERSION@"
#define KVROUTE_VERSION_MAJOR @MAJOR@
#define KVROUTE_VERSION_MINOR @MINOR@
#define KVROUTE_VERSION_PATCH @PATCH@

/// Initial value of a struct that begins with `struct_size` (in C; kvroute.hpp does it for C++).
#define KVROUTE_INIT(type) \
  { .struct_size = sizeof(type) }
