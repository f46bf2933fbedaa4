/* routellm-fast for C and every language that can call C: load a router directory, turn text or embeddings into win
 * rates, and decide between a strong and a weak model. docs/c-abi.md shows how to build and link with it.
 *
 * Threads. A router is immutable. Any number of threads may use one at the same time, without a lock; only
 * routellm_free must be the last use. The text of the last error belongs to the thread whose call failed.
 *
 * Ownership. Whoever loads a router frees it. Text that a router returns (names, kind, digest) lives as long as the
 * router; text of routellm_version and routellm_status_name lives as long as the library is loaded. Arguments are read
 * during the call and never kept.
 *
 * Faults. A function that can fail returns a routellm_status. Where it is not ROUTELLM_OK, routellm_last_error says
 * what was found, what was expected and what to do, and outputs hold nothing to rely on. No C++ exception leaves the
 * library. A NULL argument is ROUTELLM_INVALID_ARGUMENT, but where it is said to be fine; a count of 0 is fine, its
 * pointers are then not looked at.
 *
 * Numbers. A win rate is in [0, 1]: how often the strong model's answer is expected to win against the weak model's. A
 * threshold is in [0, 1]; a win rate of at least the threshold goes to the strong model. Win rates are those of the
 * Python package, to the bit; they depend neither on the batch nor on the number of threads.
 *
 * Memory. A call that scores allocates nothing once its thread has made such a call of this size, with this router, and
 * used no other since; except for more threads than one, for text that is no valid UTF-8 or has combining marks out of
 * order, and with sw_ranking's solver "routellm".
 *
 * Versions. ROUTELLM_FAST_ABI_VERSION is raised when a function or a type of this header changes or goes away; the
 * shared library's name carries it (libroutellm_fast.so.1). Within one version functions, values of routellm_status and
 * fields at the end of routellm_load_options are only added: a program that was built with an older header goes on
 * running with a newer library, and must treat a status that it does not know as a failure. */
#ifndef ROUTELLM_FAST_H
#define ROUTELLM_FAST_H

#include <stddef.h>
#include <stdint.h>

#define ROUTELLM_FAST_ABI_VERSION 1

#if defined(_WIN32) || !defined(__GNUC__)
#define ROUTELLM_API
#else
#define ROUTELLM_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* A loaded router: immutable, for any number of threads. */
typedef struct routellm_router routellm_router;

/* How a call ended. */
typedef enum routellm_status {
  ROUTELLM_OK = 0,
  ROUTELLM_INVALID_ARGUMENT = 1, /* NULL, another dim, an embedding that is not finite, a threshold outside [0, 1] */
  ROUTELLM_NOT_FOUND = 2,        /* no such directory, or a file that it names is missing */
  ROUTELLM_BAD_DIRECTORY = 3,    /* damaged, of a newer format, or of a kind that runs in the Python package only */
  ROUTELLM_NO_EMBEDDER = 4,      /* text for a router that takes embeddings only */
  ROUTELLM_OUT_OF_MEMORY = 5,
  ROUTELLM_INTERNAL = 6 /* a fault of this library: please report it */
} routellm_status;

/* ---- the library ------------------------------------------------------------------------------------------------ */

/* The ABI version of the library that is loaded: to be compared with ROUTELLM_FAST_ABI_VERSION of this header. */
ROUTELLM_API uint32_t routellm_abi_version(void);

/* The version of the package, e.g. "0.1.0". */
ROUTELLM_API const char* routellm_version(void);

/* Why the calling thread's last failed call failed, UTF-8; "" before one. Valid until this thread's next failed call;
 * calls that succeed leave it alone. Very long texts are cut. */
ROUTELLM_API const char* routellm_last_error(void);

/* "ok", "invalid argument", ...; "unknown status" for a value that is none. */
ROUTELLM_API const char* routellm_status_name(routellm_status status);

/* ---- loading ---------------------------------------------------------------------------------------------------- */

/* What may be changed at loading. Fill it with zeros, then set size: everything is then as in the directory. */
typedef struct routellm_load_options {
  uint32_t size; /* sizeof(routellm_load_options); bytes that a newer header adds must be zero for this library */
  const char* strong_model; /* where prompts are sent, UTF-8, any name; NULL as stored */
  const char* weak_model;   /* the same for the weak model; neither changes a win rate */
  uint32_t threads; /* at most so many for a batch by sw_ranking, 0 for one; mf is done before a thread has started */
} routellm_load_options;

/* Load a router directory: mf or sw_ranking, in every precision. Checks what the Python package checks: format version,
 * keys, names, sizes and digests of files, shapes, finite weights; of memory-mapped tensors sizes and headers only.
 *
 * Text can be routed where the directory holds a static embedder with a WordPiece tokenizer; with any other embedder,
 * or none, the router takes embeddings (routellm_reads_text). An embedder that is shared with the router that ships is
 * read from the directory "../mf" beside this one, and has to have the recorded fingerprint.
 *
 * directory: UTF-8 path. options: NULL for all as stored. *out: the router, NULL where loading failed.
 * ROUTELLM_NOT_FOUND, ROUTELLM_BAD_DIRECTORY, ROUTELLM_INVALID_ARGUMENT, ROUTELLM_OUT_OF_MEMORY. */
ROUTELLM_API routellm_status routellm_load(const char* directory, const routellm_load_options* options,
                                           routellm_router** out);

/* Free a router. NULL is fine. No call may be using it, and text that it returned is gone with it. */
ROUTELLM_API void routellm_free(routellm_router* router);

/* ---- what a router is ------------------------------------------------------------------------------------------- */
/* These cannot fail. Of NULL they say "", 0, 0. */

/* "mf" or "sw_ranking". */
ROUTELLM_API const char* routellm_kind(const routellm_router* router);

/* SHA-256 of router.json, 64 hexadecimal digits: the router's identity, as router.json holds the digest of every other
 * file. */
ROUTELLM_API const char* routellm_digest(const routellm_router* router);

/* Where prompts are sent. */
ROUTELLM_API const char* routellm_strong_model(const routellm_router* router);
ROUTELLM_API const char* routellm_weak_model(const routellm_router* router);

/* Values in an embedding. */
ROUTELLM_API size_t routellm_dim(const routellm_router* router);

/* 1 where text can be routed, 0 where embeddings only. */
ROUTELLM_API int routellm_reads_text(const routellm_router* router);

/* The models that the router can score, and the name of each; "" for an index that is too large. */
ROUTELLM_API size_t routellm_model_count(const routellm_router* router);
ROUTELLM_API const char* routellm_model_name(const routellm_router* router, size_t index);

/* The threshold that sends a share in [0, 1] of the calibration's prompts to the strong model.
 * ROUTELLM_INVALID_ARGUMENT for a share outside [0, 1], and for a router without a calibration. */
ROUTELLM_API routellm_status routellm_threshold_for(const routellm_router* router, double strong_share,
                                                    double* threshold);

/* ---- win rates -------------------------------------------------------------------------------------------------- */
/* Text is UTF-8 of a given number of bytes: it needs no NUL, may hold some, and may be empty (NULL is then fine).
 * Invalid sequences read as U+FFFD. Embeddings are `count` rows of `dim` float32 values, one after the other.
 * ROUTELLM_NO_EMBEDDER for text where routellm_reads_text is 0. ROUTELLM_INVALID_ARGUMENT, naming the row, for an
 * embedding with a NaN or an infinity, for another dim, and with sw_ranking for a row of zeros. */

ROUTELLM_API routellm_status routellm_win_rate(const routellm_router* router, const char* text, size_t bytes,
                                               float* win_rate);
/* win_rates: count values. */
ROUTELLM_API routellm_status routellm_win_rates(const routellm_router* router, const char* const* texts,
                                                const size_t* bytes, size_t count, float* win_rates);
ROUTELLM_API routellm_status routellm_win_rates_from_embeddings(const routellm_router* router, const float* embeddings,
                                                                size_t count, size_t dim, float* win_rates);

/* ---- decisions -------------------------------------------------------------------------------------------------- */
/* As above, and for each prompt 1 for the strong model, 0 for the weak one. Where a compressed sw_ranking router's win
 * rate lies within its stated error of the threshold it is computed again, exactly. ROUTELLM_INVALID_ARGUMENT also for
 * a threshold outside [0, 1] or NaN. */

ROUTELLM_API routellm_status routellm_route(const routellm_router* router, const char* text, size_t bytes,
                                            double threshold, float* win_rate, int* is_strong);
ROUTELLM_API routellm_status routellm_route_batch(const routellm_router* router, const char* const* texts,
                                                  const size_t* bytes, size_t count, double threshold, float* win_rates,
                                                  uint8_t* is_strong);
ROUTELLM_API routellm_status routellm_route_embeddings(const routellm_router* router, const float* embeddings,
                                                       size_t count, size_t dim, double threshold, float* win_rates,
                                                       uint8_t* is_strong);

/* ---- all models ------------------------------------------------------------------------------------------------- */
/* Scores of all routellm_model_count models, in the order of routellm_model_name; higher is better. mf: logits, whose
 * difference is the log-odds of one model against another. sw_ranking: the rating of each model's tier, a difference of
 * one for odds of ten to one; NaN where the battles do not compare the tier with the strong model's. */

ROUTELLM_API routellm_status routellm_rank(const routellm_router* router, const char* text, size_t bytes,
                                           float* scores);
ROUTELLM_API routellm_status routellm_rank_embedding(const routellm_router* router, const float* embedding, size_t dim,
                                                     float* scores);

#ifdef __cplusplus
}
#endif

#endif
