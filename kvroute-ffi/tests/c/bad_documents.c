/*
 * Documents that are none: configurations of endpoint pickers, policies, and lines of a decision log.
 */
#include "bad_input.h"

#define INVALID(call) NO(KVROUTE_INVALID_INPUT, call)
#define NOT_UTF8(call) NO(KVROUTE_INVALID_UTF8, call)

#define DECIDE kvroute_router_decide(router, &request, 1, workspace, &out.decision, error)

static const kvroute_str BROKEN = {"a\xff", 2};

static void configurations_that_no_endpoint_picker_has(void) {
  static const char *const none[] = {"", "{}", "[", "{\"kind\":\"Pod\"}", CONFIG};
  size_t at;
#define READ(document, len)                                                                       \
  kvroute_config_from_endpoint_picker(document, len, out.text, 4096, &out.written, NULL, 0, NULL, \
                                      error)
  for (at = 0; at < sizeof none / sizeof *none; ++at) {
    INVALID(READ(none[at], strlen(none[at])));
  }
  INVALID(READ(ENDPOINT_PICKER, SIZE_MAX));
  NOT_UTF8(READ(BROKEN.data, BROKEN.len));
#undef READ
}

/* Lines of a decision log: of what was never decided, of what no log has, and made again by no policy. */
static void lines_that_are_none(void) {
  static const char *const none[] = {"", "{}", "[]", "{\"kvroute_log\":99,\"kind\":\"decision\"}",
                                     "{\"kvroute_log\":1,\"kind\":\"decision\"}"};
  static char line[1 << 13];
  kvroute_request request = good_request();
  kvroute_workspace *fresh_one = kvroute_workspace_new();
  size_t at, written = 0;
#define REPLAY(line, len, policy) \
  kvroute_log_replay(line, len, policy, strlen(policy), out.text, 4096, &out.written, error)
  for (at = 0; at < sizeof none / sizeof *none; ++at) {
    NO(KVROUTE_DECODE, REPLAY(none[at], strlen(none[at]), "{}"));
  }
  NOT_UTF8(REPLAY(BROKEN.data, BROKEN.len, "{}"));
  OK(kvroute_log_outcome(ticket, KVROUTE_FINISH_COMPLETED, KVROUTE_CACHED_UNKNOWN, 1, line,
                         sizeof line, &written, error));
  INVALID(REPLAY(line, written, "{}"));
  OK(kvroute_router_record(router, &request, fresh_one, NULL, 0, line, sizeof line, &written,
                           error));
  CHECK_NUMBER(0, written);
  OK(kvroute_router_decide(router, &request, 1, workspace, &out.decision, error));
  OK(kvroute_router_record(router, &request, workspace, NULL, 0, line, sizeof line, &written,
                           error));
  settle();
  YES(REPLAY(line, written, CONFIG));
  INVALID(REPLAY(line, written, "{\"policy\":{\"preset\":\"cheapest\"}}"));
  INVALID(REPLAY(line, SIZE_MAX, "{}"));
  INVALID(kvroute_router_record(router, &request, workspace, NULL, 2, out.text, 4096, &out.written,
                                error));
  request.session_id = request.session_token = str("both");
  INVALID(kvroute_router_record(router, &request, workspace, NULL, 0, out.text, 4096, &out.written,
                                error));
  INVALID(kvroute_log_outcome(1, 9, 0, 1, out.text, 4096, &out.written, error));
  INVALID(kvroute_log_outcome(1, 0, -2, 1, out.text, 4096, &out.written, error));
#undef REPLAY
  kvroute_workspace_free(fresh_one);
}

/* A policy that is none leaves the old one, whose external scorer is known by its column. */
static void policies_that_are_none(void) {
  static const char *const none[] = {
      "", "[]", "{\"decode\":{}}", "{\"policy\":{\"preset\":\"cheapest\"}}",
      "{\"policy\":{\"decode\":{\"scorers\":{\"load\":{\"weight\":-1}}}}}",
      /* The rest is checked too. */
      "{\"policy\":{\"preset\":\"cost\"},\"pods\":[{\"name\":\"a\",\"domain\":\"n\"}]}"};
  kvroute_request request = good_request();
  kvroute_score_column column;
  const double value = 1;
  size_t at;
  column.scorer = str("cheap");
  column.pods = &pod;
  column.values = &value;
  column.len = 1;
  request.scores = &column;
  request.scores_len = 1;
  for (at = 0; at < sizeof none / sizeof *none; ++at) {
    INVALID(kvroute_router_set_policy(router, none[at], strlen(none[at]), error));
    YES(DECIDE);
  }
  OK(kvroute_router_set_policy(router, "{}", 2, error));
  settle();
  INVALID(DECIDE);
  OK(kvroute_router_set_policy(router, CONFIG, strlen(CONFIG), error));
  YES(DECIDE);
}

int main(void) {
  set_up();
  configurations_that_no_endpoint_picker_has();
  lines_that_are_none();
  policies_that_are_none();
  return tear_down();
}
