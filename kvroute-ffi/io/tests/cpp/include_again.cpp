// A second translation unit with the header in it, twice: whatever is not `inline` in there does not link.
#include "kvroute_io.hpp"
#include "kvroute_io.hpp"

kvroute::FleetOptions options_of_another_unit() {
  kvroute::FleetOptions options;
  options.threads = 1;
  return options;
}
