/*
 * kvroute_io: what feeds a kvroute router from real engines. Pods, their KV events and loads; prompts' token ids.
 *
 * This file is generated (`cargo xtask header`), and says what kvroute.h does not: whatever is said there of objects,
 * arguments, errors and structs holds here too.
 *
 * # In short
 *
 *   kvroute_fleet_start(document, strlen(document), NULL, &fleet, error);
 *   kvroute_fleet_router(fleet, &router, error);
 *   kvroute_tokenizer_new(folder, strlen(folder), NULL, &tokenizer, error);
 *                                                                               for each request:
 *   kvroute_tokenizer_prompts(tokenizer, KVROUTE_ENDPOINT_CHAT_COMPLETIONS, body, body_len, prompts, error);
 *   kvroute_prompts_get(prompts, 0, &prompt, error);
 *   request.token_ids = prompt.token_ids, request.token_ids_len = prompt.token_ids_len, request.text = prompt.text;
 *   kvroute_fleet_now(fleet, &now_ns, error);
 *   kvroute_router_dispatch(router, &request, now_ns, workspace, &decision, error);
 *   kvroute_fleet_target(fleet, decision.pod, ... url ...);                     send it there
 *
 * examples/c/fleet.c is a whole program. C++ programs may prefer kvroute_io.hpp.
 *
 * # Building
 *
 *   cc program.c $(pkg-config --cflags --libs kvroute_io)             shared
 *   cc program.c $(pkg-config --cflags --libs kvroute_io-static)      static
 *
 * libkvroute_io has all of libkvroute in it, and is linked in its place: never both.
 *
 * # Objects
 *
 *   object              made by                                  freed by                   at one time
 *   kvroute_fleet       kvroute_fleet_start                      kvroute_fleet_free         any number
 *   kvroute_router      kvroute_fleet_router                     kvroute_router_free        any number, if const
 *   kvroute_tokenizer   kvroute_tokenizer_new                    kvroute_tokenizer_free     any number
 *   kvroute_prompts     kvroute_prompts_new                      kvroute_prompts_free       one thread
 *
 * Handles may be freed in any order: a router outlives its fleet. A process that forks has to start its fleets and
 * tokenizers after that, since threads are not taken along.
 *
 * # Threads, sockets, files
 *
 * A fleet and a tokenizer have threads of their own, which call nothing of the caller's. A fleet connects to pods over HTTP
 * and ZeroMQ, and reads the files that its document names; a tokenizer reads its folder, once.
 */
