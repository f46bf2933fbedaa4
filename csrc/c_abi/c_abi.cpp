// The C ABI: check arguments, call the core, turn what it throws into a status. No algorithm lives here.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "routellm_fast.h"
#include "router/router.hpp"
#include "text/utf8_text.hpp"

struct routellm_router {
  std::shared_ptr<const routellm_fast::Router> router;
};

namespace {

using routellm_fast::Error;
using routellm_fast::ErrorCode;
using routellm_fast::Excerpt;
using routellm_fast::RouterOptions;
using routellm_fast::Source;
using routellm_fast::TextBatch;

// A buffer of a fixed size: reporting an error must not allocate, as running out of memory may be the error.
constexpr std::size_t kMessageBytes = 1024;
thread_local char last_error[kMessageBytes] = "";  // NOLINT(*-avoid-non-const-global-variables): one a thread

void remember(const char* message) noexcept {
  const std::size_t length = std::strlen(message);
  std::size_t kept = std::min(length, kMessageBytes - 1);
  // Cut between characters, never inside one.
  while (kept < length && kept > 0 && (static_cast<unsigned char>(message[kept]) & 0xC0U) == 0x80U) --kept;
  std::memcpy(last_error, message, kept);
  last_error[kept] = '\0';
}

routellm_status status_of(ErrorCode code) noexcept {
  switch (code) {
    case ErrorCode::kInvalidArgument:
    case ErrorCode::kInvalidEmbedding:
    case ErrorCode::kUnsupportedIsa:
      return ROUTELLM_INVALID_ARGUMENT;
    case ErrorCode::kNotFound:
      return ROUTELLM_NOT_FOUND;
    case ErrorCode::kNewerVersion:
    case ErrorCode::kDamaged:
    case ErrorCode::kBadDirectory:
    case ErrorCode::kEmbedderMismatch:
      return ROUTELLM_BAD_DIRECTORY;
    case ErrorCode::kNoEmbedder:
      return ROUTELLM_NO_EMBEDDER;
    case ErrorCode::kOutOfMemory:
      return ROUTELLM_OUT_OF_MEMORY;
  }
  return ROUTELLM_INTERNAL;
}

// Runs a call, and turns its exceptions into a status and a text. No exception passes this function.
template <typename Call>
routellm_status guarded(const Call& call) noexcept {
  try {
    call();
    return ROUTELLM_OK;
  } catch (const Error& error) {
    remember(error.what());
    return status_of(error.code());
  } catch (const std::bad_alloc&) {
    remember("out of memory.");
    return ROUTELLM_OUT_OF_MEMORY;
  } catch (const std::length_error&) {
    remember("out of memory: more was asked for than any machine has.");
    return ROUTELLM_OUT_OF_MEMORY;
  } catch (const std::exception& error) {
    remember(error.what());
    return ROUTELLM_INTERNAL;
  } catch (...) {
    remember("an unknown fault.");
    return ROUTELLM_INTERNAL;
  }
}

[[noreturn]] void refuse(const std::string& what) { throw Error(ErrorCode::kInvalidArgument, what); }

template <typename T>
void check_pointer(const T* pointer, const char* what) {
  if (pointer == nullptr) refuse(std::string(what) + " is NULL.");
}

const routellm_fast::Router& checked(const routellm_router* router) {
  check_pointer(router, "router");
  return *router->router;
}

Excerpt text_of(const char* text, std::size_t bytes) { return Excerpt::of({bytes == 0 ? "" : text, bytes}); }

Excerpt checked_text(const char* text, std::size_t bytes) {
  if (text == nullptr && bytes > 0) refuse("text is NULL, but has " + std::to_string(bytes) + " bytes.");
  return text_of(text, bytes);
}

// The texts, in memory of the thread until its next call.
TextBatch checked_texts(const char* const* texts, const std::size_t* bytes, std::size_t count) {
  if (count == 0) return {};
  check_pointer(texts, "texts");
  check_pointer(bytes, "bytes");
  thread_local std::vector<Excerpt> all;
  all.clear();
  for (std::size_t i = 0; i < count; ++i) {
    if (texts[i] == nullptr && bytes[i] > 0) {
      refuse("text " + std::to_string(i) + " is NULL, but has " + std::to_string(bytes[i]) + " bytes.");
    }
    all.push_back(text_of(texts[i], bytes[i]));
  }
  return {.texts = all};
}

void check_embeddings(const routellm_fast::Router& router, const float* embeddings, std::size_t count,
                      std::size_t dim) {
  if (dim != router.dim()) {
    refuse("embeddings have " + std::to_string(dim) + " values, this router takes " + std::to_string(router.dim()) +
           " (routellm_dim). Use the embedder that it was trained with.");
  }
  if (count > 0) check_pointer(embeddings, "embeddings");
}

// Checks the pointer to an output of `count` values.
void check_output(const void* output, std::size_t count, const char* what) {
  if (count > 0) check_pointer(output, what);
}

std::string checked_name(const char* name, const char* what) {
  if (name == nullptr) return {};
  std::string scratch;
  const std::string_view given(name);
  if (given.empty()) refuse(std::string(what) + " is empty; NULL leaves the model as stored.");
  if (routellm_fast::valid_utf8(given, given.size(), scratch).text.data() != given.data()) {
    refuse(std::string(what) + " is not UTF-8.");
  }
  return std::string(given);
}

RouterOptions read_options(const routellm_load_options* options) {
  RouterOptions result;
  if (options == nullptr) return result;
  // A newer program may have fields that this library does not know. They are allowed if they are zero. An older one
  // lacks those that were added since the first version, which ended with threads.
  constexpr std::size_t kOwn = sizeof(routellm_load_options);
  constexpr std::size_t kFirst = offsetof(routellm_load_options, digest);
  const auto size = static_cast<std::size_t>(options->size);
  constexpr std::size_t kMost = 4096;
  if (size < kFirst || size > kMost) {
    refuse("options.size is " + std::to_string(size) + "; expected sizeof(routellm_load_options), " +
           std::to_string(kOwn) + " in this version.");
  }
  const auto* const bytes = reinterpret_cast<const unsigned char*>(options);
  if (std::any_of(bytes + std::min(kOwn, size), bytes + size, [](unsigned char byte) { return byte != 0; })) {
    refuse("options set something that this version of the library does not know: upgrade it.");
  }
  result.strong_model = checked_name(options->strong_model, "options.strong_model");
  result.weak_model = checked_name(options->weak_model, "options.weak_model");
  result.threads = std::max<std::size_t>(options->threads, 1);
  if (size >= kOwn && options->digest != nullptr) result.digest.emplace(options->digest);
  return result;
}

void decide(const float* win_rates, std::size_t count, double threshold, std::uint8_t* is_strong) noexcept {
  for (std::size_t i = 0; i < count; ++i) is_strong[i] = static_cast<double>(win_rates[i]) >= threshold ? 1 : 0;
}

}  // namespace

extern "C" {

uint32_t routellm_abi_version(void) { return ROUTELLM_FAST_ABI_VERSION; }

const char* routellm_version(void) { return ROUTELLM_FAST_VERSION; }

const char* routellm_last_error(void) { return last_error; }

const char* routellm_status_name(routellm_status status) {
  // In C any integer may come, which in C++ no variable of the enumeration may hold.
  unsigned code = 0;
  static_assert(sizeof code == sizeof status);
  std::memcpy(&code, &status, sizeof code);
  switch (code) {
    case ROUTELLM_OK:
      return "ok";
    case ROUTELLM_INVALID_ARGUMENT:
      return "invalid argument";
    case ROUTELLM_NOT_FOUND:
      return "not found";
    case ROUTELLM_BAD_DIRECTORY:
      return "bad directory";
    case ROUTELLM_NO_EMBEDDER:
      return "no embedder";
    case ROUTELLM_OUT_OF_MEMORY:
      return "out of memory";
    case ROUTELLM_INTERNAL:
      return "internal error";
    default:
      return "unknown status";
  }
}

routellm_status routellm_load(const char* directory, const routellm_load_options* options, routellm_router** out) {
  return guarded([&] {
    check_pointer(out, "out");
    *out = nullptr;
    check_pointer(directory, "directory");
    auto loaded = std::make_unique<routellm_router>();
    loaded->router = routellm_fast::load_router(directory, read_options(options));
    *out = loaded.release();
  });
}

// NOLINTNEXTLINE(misc-const-correctness): whoever frees a router owns it
void routellm_free(routellm_router* router) { delete router; }

const char* routellm_kind(const routellm_router* router) {
  return router == nullptr ? "" : router->router->kind().c_str();
}

const char* routellm_digest(const routellm_router* router) {
  return router == nullptr ? "" : router->router->digest().c_str();
}

const char* routellm_strong_model(const routellm_router* router) {
  return router == nullptr ? "" : router->router->model_pair().strong.c_str();
}

const char* routellm_weak_model(const routellm_router* router) {
  return router == nullptr ? "" : router->router->model_pair().weak.c_str();
}

size_t routellm_dim(const routellm_router* router) { return router == nullptr ? 0 : router->router->dim(); }

int routellm_reads_text(const routellm_router* router) {
  return router != nullptr && router->router->reads_text() ? 1 : 0;
}

size_t routellm_model_count(const routellm_router* router) {
  return router == nullptr ? 0 : router->router->model_names().size();
}

const char* routellm_model_name(const routellm_router* router, size_t index) {
  return index < routellm_model_count(router) ? router->router->model_names()[index].c_str() : "";
}

routellm_status routellm_threshold_for(const routellm_router* router, double strong_share, double* threshold) {
  return guarded([&] {
    const auto& loaded = checked(router);
    check_pointer(threshold, "threshold");
    *threshold = loaded.threshold_for(strong_share);
  });
}

routellm_status routellm_win_rate(const routellm_router* router, const char* text, size_t bytes, float* win_rate) {
  return guarded([&] {
    const auto& loaded = checked(router);
    const Excerpt only = checked_text(text, bytes);
    check_pointer(win_rate, "win_rate");
    loaded.win_rates({.texts = {&only, 1}}, std::nullopt, win_rate);
  });
}

routellm_status routellm_win_rates(const routellm_router* router, const char* const* texts, const size_t* bytes,
                                   size_t count, float* win_rates) {
  return guarded([&] {
    const auto& loaded = checked(router);
    const TextBatch batch = checked_texts(texts, bytes, count);
    check_output(win_rates, count, "win_rates");
    loaded.win_rates(batch, std::nullopt, win_rates);
  });
}

routellm_status routellm_win_rates_from_embeddings(const routellm_router* router, const float* embeddings, size_t count,
                                                   size_t dim, float* win_rates) {
  return guarded([&] {
    const auto& loaded = checked(router);
    check_embeddings(loaded, embeddings, count, dim);
    check_output(win_rates, count, "win_rates");
    loaded.win_rates(embeddings, count, Source::kCaller, std::nullopt, win_rates);
  });
}

routellm_status routellm_route(const routellm_router* router, const char* text, size_t bytes, double threshold,
                               float* win_rate, int* is_strong) {
  return guarded([&] {
    const auto& loaded = checked(router);
    const Excerpt only = checked_text(text, bytes);
    routellm_fast::check_share(threshold, "threshold");
    check_pointer(win_rate, "win_rate");
    check_pointer(is_strong, "is_strong");
    loaded.win_rates({.texts = {&only, 1}}, threshold, win_rate);
    *is_strong = static_cast<double>(*win_rate) >= threshold ? 1 : 0;
  });
}

routellm_status routellm_route_batch(const routellm_router* router, const char* const* texts, const size_t* bytes,
                                     size_t count, double threshold, float* win_rates, uint8_t* is_strong) {
  return guarded([&] {
    const auto& loaded = checked(router);
    const TextBatch batch = checked_texts(texts, bytes, count);
    routellm_fast::check_share(threshold, "threshold");
    check_output(win_rates, count, "win_rates");
    check_output(is_strong, count, "is_strong");
    loaded.win_rates(batch, threshold, win_rates);
    decide(win_rates, count, threshold, is_strong);
  });
}

routellm_status routellm_route_embeddings(const routellm_router* router, const float* embeddings, size_t count,
                                          size_t dim, double threshold, float* win_rates, uint8_t* is_strong) {
  return guarded([&] {
    const auto& loaded = checked(router);
    check_embeddings(loaded, embeddings, count, dim);
    routellm_fast::check_share(threshold, "threshold");
    check_output(win_rates, count, "win_rates");
    check_output(is_strong, count, "is_strong");
    loaded.win_rates(embeddings, count, Source::kCaller, threshold, win_rates);
    decide(win_rates, count, threshold, is_strong);
  });
}

routellm_status routellm_rank(const routellm_router* router, const char* text, size_t bytes, float* scores) {
  return guarded([&] {
    const auto& loaded = checked(router);
    const Excerpt only = checked_text(text, bytes);
    check_pointer(scores, "scores");
    loaded.rank({.texts = {&only, 1}}, scores);
  });
}

routellm_status routellm_rank_embedding(const routellm_router* router, const float* embedding, size_t dim,
                                        float* scores) {
  return guarded([&] {
    const auto& loaded = checked(router);
    check_embeddings(loaded, embedding, 1, dim);
    check_pointer(scores, "scores");
    loaded.rank(embedding, 1, scores);
  });
}

}  // extern "C"
