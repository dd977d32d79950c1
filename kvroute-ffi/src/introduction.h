/*
 * kvroute: routes LLM requests to the pod that already holds their prefix in its KV cache.
 *
 * This file is generated (`cargo xtask header`) and reads from top to bottom.
 *
 * # In short
 *
 *   kvroute_router_from_config(document, strlen(document), &router, error);
 *   kvroute_router_find_pod(router, "pod-a", 5, 0, &pod, error);
 *   kvroute_router_apply(router, pod, sequence, payload, payload_len, NULL, error);      for each message
 *   kvroute_router_dispatch(router, &request, now_ns, workspace, &decision, error);      for each request
 *   kvroute_router_first_token(router, decision.ticket, NULL, error);
 *   kvroute_router_finish(router, decision.ticket, KVROUTE_FINISH_COMPLETED, cached, NULL, error);
 *   kvroute_router_expire(router, now_ns, NULL, error);                                  every second
 *
 * examples/c/route.c is a whole program. C++ programs may prefer kvroute.hpp.
 *
 * # Building
 *
 *   cc program.c $(pkg-config --cflags --libs kvroute)             shared
 *   cc program.c $(pkg-config --cflags --libs kvroute-static)      static
 *
 * # Objects
 *
 *   object              made by                                  freed by                   at one time
 *   kvroute_error       kvroute_error_new                        kvroute_error_free         one thread
 *   kvroute_hasher      kvroute_hasher_new                       kvroute_hasher_free        any number
 *   kvroute_domain      kvroute_domain_new, _router_domain       kvroute_domain_free        any number
 *   kvroute_workspace   kvroute_workspace_new                    kvroute_workspace_free     one thread
 *   kvroute_router      kvroute_router_new, _from_config         kvroute_router_free        any number, if const
 *   kvroute_snapshot    kvroute_router_snapshot                  kvroute_snapshot_free      one thread
 *   kvroute_restore     kvroute_restore_new                      kvroute_restore_free       one thread
 *
 * A function that takes an object as `const T *` may run in any number of threads at a time on the same object; one
 * that takes it as `T *` must be the only one. A workspace, an error object, a snapshot or a restore that two threads use
 * at a time is found out (KVROUTE_BUSY). Freeing must be the last use. Handles may be freed in any order.
 *
 * To pass a pointer that is no object of its kind, or was freed, is undefined behaviour. The library usually notices and
 * answers KVROUTE_INVALID_HANDLE.
 *
 * # Arguments
 *
 * Arrays and texts come as pointer and length; a pointer may be NULL only with length 0. Texts are UTF-8 without a NUL
 * at their end. What is passed in is read during the call and not kept.
 *
 * Structs that begin with `struct_size` are to be zeroed first; then `struct_size` is set to their sizeof:
 *
 *   kvroute_request request = KVROUTE_INIT(kvroute_request);
 *
 * Zero means the default. Later versions add fields at the end of these structs; a program and a library of different
 * ages understand each other. All other structs keep their size. Fields called `reserved` must be 0, since later versions
 * may give them a name and a meaning.
 *
 * Answers are written only on success, with one exception: a buffer that is too small. Then the call answers
 * KVROUTE_BUFFER_TOO_SMALL, and `*written` is the capacity that would do. Otherwise `*written` is what was written; of
 * a text without the NUL behind it. Places for answers must not be NULL unless it says so. Handles aside,
 * the library neither takes over memory nor hands any out.
 *
 * # Errors
 *
 * Functions that can fail answer a status: 0 (KVROUTE_OK), 1xx for mistakes of the caller, 2xx for data, 3xx for the
 * state of things, 9xx for mistakes of this library. Their last argument is an error object, or NULL: after a failure
 * it holds a message that names what was wrong and where. A call that failed changed nothing.
 *
 * What is wrong with an engine's events is no failure of the call that applies them: it is in the report. A pod that was
 * added with KVROUTE_ON_GAP_REPLAY waits until somebody reads there that it needs batches.
 *
 * Nothing here throws or jumps, and nothing aborts but running out of memory. If this library panics, which is a bug in
 * it, it says so on the standard error output and the call answers KVROUTE_PANIC. A router that was being changed at
 * that moment answers KVROUTE_POISONED from then on, until kvroute_router_recover.
 *
 * # Time
 *
 * This library reads no clock. `now_ns` is the time in nanoseconds since any moment that is the same for all calls to
 * a router; with session tokens, since the Unix epoch.
 *
 * # Cost
 *
 * Deciding and dispatching are one call each. Once a workspace is warm, deciding allocates nothing.
 */
