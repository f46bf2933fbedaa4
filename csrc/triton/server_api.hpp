#pragma once

#ifdef ROUTELLM_FAST_TRITON_HEADERS
#include "triton/core/tritonbackend.h"
#else
#include "triton/tritonbackend_api.h"
#endif

#include <cstddef>
#include <exception>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>

/// The layer between Triton's C functions and the rest of the backend: errors are exceptions inside the backend only.
namespace routellm_fast::triton {

/// An error with the code that Triton's front ends turn into a status. The text says what was found and what to do.
class Failure : public std::runtime_error {
 public:
  Failure(TRITONSERVER_Error_Code code, const std::string& message) : std::runtime_error(message), code_(code) {}

  [[nodiscard]] TRITONSERVER_Error_Code code() const noexcept { return code_; }

 private:
  TRITONSERVER_Error_Code code_;
};

/// Throws the error that a function of the server returned as Failure; does nothing for no error.
inline void check(TRITONSERVER_Error* error) {
  if (error == nullptr) return;
  const std::unique_ptr<TRITONSERVER_Error, decltype(&TRITONSERVER_ErrorDelete)> owned(error,
                                                                                       &TRITONSERVER_ErrorDelete);
  throw Failure(TRITONSERVER_ErrorCode(error), TRITONSERVER_ErrorMessage(error));
}

/// Drops an error where there is nobody left to tell but the log.
inline void log_if_failed(TRITONSERVER_Error* error, const char* file, int line) noexcept {
  if (error == nullptr) return;
  TRITONSERVER_Error* unlogged =
      TRITONSERVER_LogMessage(TRITONSERVER_LOG_ERROR, file, line, TRITONSERVER_ErrorMessage(error));
  if (unlogged != nullptr) TRITONSERVER_ErrorDelete(unlogged);
  TRITONSERVER_ErrorDelete(error);
}

inline void log(TRITONSERVER_LogLevel level, const std::string& message, const char* file, int line) noexcept {
  TRITONSERVER_Error* unlogged = TRITONSERVER_LogMessage(level, file, line, message.c_str());
  if (unlogged != nullptr) TRITONSERVER_ErrorDelete(unlogged);
}

/// The server's error for the exception that is being handled; call it in a catch block. Never throws. The caller owns
/// the result.
inline TRITONSERVER_Error* error_in_flight() noexcept {
  try {
    throw;
  } catch (const Failure& failure) {
    return TRITONSERVER_ErrorNew(failure.code(), failure.what());
  } catch (const std::bad_alloc&) {
    return TRITONSERVER_ErrorNew(TRITONSERVER_ERROR_UNAVAILABLE, "routellm backend: out of memory");
  } catch (const std::exception& error) {
    return TRITONSERVER_ErrorNew(TRITONSERVER_ERROR_INTERNAL, error.what());
  } catch (...) {
    return TRITONSERVER_ErrorNew(TRITONSERVER_ERROR_INTERNAL, "routellm backend: an unknown exception");
  }
}

/// Runs the body of a function of the backend's C interface, and turns its exceptions into errors of the server.
template <typename Body>
TRITONSERVER_Error* guarded(Body&& body) noexcept {
  try {
    body();
    return nullptr;
  } catch (...) {
    return error_in_flight();
  }
}

}  // namespace routellm_fast::triton
