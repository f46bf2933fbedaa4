/* Usage: route ROUTER_DIRECTORY PROMPTS. Routes each line of the file PROMPTS and prints win rate, model and prompt. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "routellm_fast.h"

static int fail(const char* what) {
  fprintf(stderr, "%s: %s\n", what, routellm_last_error());
  return EXIT_FAILURE;
}

int main(int argc, char** argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: %s ROUTER_DIRECTORY PROMPTS\n", argv[0]);
    return 2;
  }
  if (routellm_abi_version() != ROUTELLM_FAST_ABI_VERSION) {
    fprintf(stderr, "this program was built for ABI %d, the library has %u\n", ROUTELLM_FAST_ABI_VERSION,
            (unsigned)routellm_abi_version());
    return EXIT_FAILURE;
  }
  FILE* prompts = fopen(argv[2], "rb");
  if (prompts == NULL) {
    perror(argv[2]);
    return EXIT_FAILURE;
  }
  routellm_router* router = NULL;
  if (routellm_load(argv[1], NULL, &router) != ROUTELLM_OK) return fail(argv[1]);
  double threshold = 0.5;
  if (routellm_threshold_for(router, 0.3, &threshold) != ROUTELLM_OK) return fail("threshold");

  static char line[1 << 16];
  while (fgets(line, sizeof(line), prompts) != NULL) {
    size_t bytes = strcspn(line, "\n");
    float win_rate = 0;
    int is_strong = 0;
    if (routellm_route(router, line, bytes, threshold, &win_rate, &is_strong) != ROUTELLM_OK) return fail("route");
    printf("%.7f\t%s\t%.*s\n", win_rate, is_strong ? routellm_strong_model(router) : routellm_weak_model(router),
           (int)bytes, line);
  }
  routellm_free(router);
  fclose(prompts);
  return EXIT_SUCCESS;
}
