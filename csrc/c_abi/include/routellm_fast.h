/* routellm-fast for C and every language that can call C: load a router directory, turn text or embeddings into win
 * rates, and choose between a strong and a weak model. docs/c-abi.md shows how to build and link with it.
 *
 * Threads. A router is immutable. Any number of threads may use one at the same time, without a lock; routellm_free
 * must be the last call that uses it. The text of the last error belongs to the thread whose call failed.
 *
 * Ownership. The caller that loads a router must free it. Text that a router returns (names, kind, digest) is valid as
 * long as the router; text of routellm_version and routellm_status_name is valid as long as the library is loaded.
 * Arguments are read during the call only.
 *
 * Errors. A function that can fail returns a routellm_status. If it is not ROUTELLM_OK, routellm_last_error says what
 * was found, what was expected and what to do, and the values of outputs are undefined. No C++ exception leaves the
 * library. A NULL argument gives ROUTELLM_INVALID_ARGUMENT, unless its description allows NULL. A count of 0 is
 * allowed; its pointers are then not read.
 *
 * Numbers. A win rate is in [0, 1]: how often the strong model's answer is expected to win against the weak model's. A
 * threshold is in [0, 1]; a win rate of at least the threshold goes to the strong model. Win rates are those of the
 * Python package, to the bit; they depend neither on the batch nor on the number of threads.
 *
 * Memory. A thread's first scoring call with a router allocates its workspace. Later calls of at most that size
 * allocate nothing, as long as the thread uses no other router in between. Exceptions are a batch on more than one
 * thread, text that is not valid UTF-8 or has combining marks out of order, and sw_ranking's solver "routellm".
 *
 * Versions. ROUTELLM_FAST_ABI_VERSION is raised when a function or a type of this header changes or goes away; the
 * shared library's name ends with it (libroutellm_fast.so.1). Within one version, functions, values of routellm_status
 * and fields at the end of routellm_load_options may be added, and nothing else changes: a program that was built with
 * an older header works with a newer library, and must treat a status that it does not know as a failure. */
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

/* A loaded router. It is immutable, and any number of threads may use it. */
typedef struct routellm_router routellm_router;

/* How a call ended. */
typedef enum routellm_status {
  ROUTELLM_OK = 0,
  ROUTELLM_INVALID_ARGUMENT = 1, /* e.g. NULL, another dim, a value that is not finite, a threshold outside [0, 1] */
  ROUTELLM_NOT_FOUND = 2,        /* the directory, or a file that it must hold, does not exist */
  ROUTELLM_BAD_DIRECTORY = 3,    /* damaged, of a newer format, or of a kind that only the Python package runs */
  ROUTELLM_NO_EMBEDDER = 4,      /* text was given to a router that takes embeddings only */
  ROUTELLM_OUT_OF_MEMORY = 5,
  ROUTELLM_INTERNAL = 6 /* a bug in this library: please report it */
} routellm_status;

/* ---- the library ------------------------------------------------------------------------------------------------ */

/* The ABI version of the loaded library. Compare it with ROUTELLM_FAST_ABI_VERSION of this header. */
ROUTELLM_API uint32_t routellm_abi_version(void);

/* The version of the package, e.g. "0.1.0". */
ROUTELLM_API const char* routellm_version(void);

/* UTF-8 text that says why the last failed call of the calling thread failed; "" if none has failed. It is valid until
 * the next failed call of this thread; calls that succeed do not change it. Very long texts are cut. */
ROUTELLM_API const char* routellm_last_error(void);

/* The name of a status: "ok", "invalid argument", ...; "unknown status" for any other value. */
ROUTELLM_API const char* routellm_status_name(routellm_status status);

/* ---- loading ---------------------------------------------------------------------------------------------------- */

/* Options of routellm_load. Fill the struct with zeros, then set size: everything is then as the directory says. */
typedef struct routellm_load_options {
  uint32_t size;            /* sizeof(routellm_load_options). Fields that this library does not know must be zero. */
  const char* strong_model; /* name of the strong model, UTF-8; NULL: the stored name. No win rate depends on it. */
  const char* weak_model;   /* name of the weak model, likewise */
  uint32_t threads;         /* the most threads for a batch of a sw_ranking router; 0 means 1. mf always uses one. */
  const char* digest;       /* what routellm_digest of this router is to be, "sha256:" before it is allowed. Anything
                             * else is refused with ROUTELLM_BAD_DIRECTORY. Every byte is then checked, those of
                             * memory-mapped tensors too, which loading otherwise does not read. NULL: no check. */
} routellm_load_options;

/* Load a router directory of kind mf or sw_ranking, in every precision. Checks what the Python package checks: format
 * version, keys, names, sizes and digests of files, shapes, finite weights; for memory-mapped tensors only sizes and
 * headers: run `routellm-fast info DIRECTORY --verify` once after a directory was copied.
 *
 * Replace a directory that is in use by another one (mv), never its files' contents (cp, rsync --inplace): calls that
 * score then fail with ROUTELLM_BAD_DIRECTORY until the router is loaded again, and a call that reads a memory-mapped
 * file at the moment at which it is cut off ends the process by SIGBUS.
 *
 * Text can be routed if the directory holds a static embedder with a WordPiece tokenizer; with any other embedder, or
 * none, the router takes embeddings only (see routellm_reads_text). An embedder that is shared with the router that
 * ships is read from the directory "../mf" beside this one, and must have the recorded fingerprint.
 *
 * Two things are not checked unless options.digest is given: whether this is the router that you mean, and the values
 * of memory-mapped tensors.
 *
 * directory: UTF-8 path. options: NULL for everything as stored. *out: the router, or NULL if loading failed.
 * Fails with ROUTELLM_NOT_FOUND, ROUTELLM_BAD_DIRECTORY, ROUTELLM_INVALID_ARGUMENT, ROUTELLM_OUT_OF_MEMORY. */
ROUTELLM_API routellm_status routellm_load(const char* directory, const routellm_load_options* options,
                                           routellm_router** out);

/* Free a router; NULL is allowed. No call may be using it, and text that it returned is no longer valid. */
ROUTELLM_API void routellm_free(routellm_router* router);

/* ---- what a router is ------------------------------------------------------------------------------------------- */
/* These cannot fail. Of NULL they say "", 0, 0. */

/* The kind: "mf" or "sw_ranking". */
ROUTELLM_API const char* routellm_kind(const routellm_router* router);

/* SHA-256 of router.json, 64 hexadecimal digits: the directory's digest, which saving and `routellm-fast info --digest`
 * print with "sha256:" before it. It identifies the router, as router.json holds the digests of all other files but the
 * model card. */
ROUTELLM_API const char* routellm_digest(const routellm_router* router);

/* The names of the strong and the weak model, which prompts are sent to. */
ROUTELLM_API const char* routellm_strong_model(const routellm_router* router);
ROUTELLM_API const char* routellm_weak_model(const routellm_router* router);

/* The number of values in an embedding. */
ROUTELLM_API size_t routellm_dim(const routellm_router* router);

/* 1 if the router can score text, 0 if it takes embeddings only. */
ROUTELLM_API int routellm_reads_text(const routellm_router* router);

/* The number of models that the router can score, and the name of each; "" for an index that is too large. */
ROUTELLM_API size_t routellm_model_count(const routellm_router* router);
ROUTELLM_API const char* routellm_model_name(const routellm_router* router, size_t index);

/* The threshold that sends a share in [0, 1] of the calibration's prompts to the strong model.
 * Prompts with one and the same win rate go to one model together: where many have, more than this share may.
 * Fails with ROUTELLM_INVALID_ARGUMENT for a share outside [0, 1], and for a router without a calibration. */
ROUTELLM_API routellm_status routellm_threshold_for(const routellm_router* router, double strong_share,
                                                    double* threshold);

/* ---- win rates -------------------------------------------------------------------------------------------------- */
/* Text is UTF-8 of a given number of bytes. It needs no NUL at its end, may hold NULs, and may be empty (NULL is then
 * allowed). Invalid sequences read as U+FFFD. Embeddings are `count` rows of `dim` float32 values, one after the other.
 * Functions with text fail with ROUTELLM_NO_EMBEDDER if routellm_reads_text is 0. Functions with embeddings fail with
 * ROUTELLM_INVALID_ARGUMENT, and name the row, for a NaN or an infinity, for another dim, and with sw_ranking for a row
 * of zeros. All functions below fail with ROUTELLM_BAD_DIRECTORY if a memory-mapped file of the router was changed in
 * place since it was loaded. */

ROUTELLM_API routellm_status routellm_win_rate(const routellm_router* router, const char* text, size_t bytes,
                                               float* win_rate);
/* win_rates: room for count values. */
ROUTELLM_API routellm_status routellm_win_rates(const routellm_router* router, const char* const* texts,
                                                const size_t* bytes, size_t count, float* win_rates);
ROUTELLM_API routellm_status routellm_win_rates_from_embeddings(const routellm_router* router, const float* embeddings,
                                                                size_t count, size_t dim, float* win_rates);

/* ---- decisions -------------------------------------------------------------------------------------------------- */
/* As above, and is_strong is 1 for a prompt that goes to the strong model, 0 for the weak model. If the win rate of a
 * compressed sw_ranking router is closer to the threshold than its error bound, it is computed again, exactly. A
 * threshold outside [0, 1] or NaN fails with ROUTELLM_INVALID_ARGUMENT. */

ROUTELLM_API routellm_status routellm_route(const routellm_router* router, const char* text, size_t bytes,
                                            double threshold, float* win_rate, int* is_strong);
ROUTELLM_API routellm_status routellm_route_batch(const routellm_router* router, const char* const* texts,
                                                  const size_t* bytes, size_t count, double threshold, float* win_rates,
                                                  uint8_t* is_strong);
ROUTELLM_API routellm_status routellm_route_embeddings(const routellm_router* router, const float* embeddings,
                                                       size_t count, size_t dim, double threshold, float* win_rates,
                                                       uint8_t* is_strong);

/* ---- all models ------------------------------------------------------------------------------------------------- */
/* Write the scores of all routellm_model_count models, in the order of routellm_model_name; higher is better. For mf
 * they are logits: the difference of two is the log-odds of one model against the other. For sw_ranking they are the
 * ratings of the models' tiers: a difference of 1 means odds of ten to one. A score is NaN if the battles do not
 * compare its tier with the strong model's. */

ROUTELLM_API routellm_status routellm_rank(const routellm_router* router, const char* text, size_t bytes,
                                           float* scores);
ROUTELLM_API routellm_status routellm_rank_embedding(const routellm_router* router, const float* embedding, size_t dim,
                                                     float* scores);

#ifdef __cplusplus
}
#endif

#endif
