// A second translation unit with the header in it, twice: whatever is not `inline` in there does not link.
#include "kvroute.hpp"
#include "kvroute.hpp"

kvroute::Hasher hasher_of_another_unit() {
  kvroute::HasherOptions options;
  options.block_size = 4;
  return kvroute::Hasher(options);
}
