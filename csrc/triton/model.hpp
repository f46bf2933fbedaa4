#pragma once

#include <cstdint>
#include <string>

#include "triton/loaded_router.hpp"
#include "triton/request.hpp"
#include "triton/server_api.hpp"

namespace routellm_fast::triton {

/// One version of a model: its router, loaded once for all instances, and what requests to it look like. Immutable and
/// thread-safe once made.
class Model {
 public:
  /// Loads the router that the model's configuration names, and completes that configuration where the server asks for
  /// it. Throws Failure: the model is then not served, for the reason in the text.
  static Model load(TRITONBACKEND_Model* handle);

  [[nodiscard]] const LoadedRouter& router() const noexcept { return router_; }
  [[nodiscard]] const RequestForm& form() const noexcept { return form_; }

 private:
  Model(LoadedRouter router, RequestForm form) : router_(std::move(router)), form_(form) {}

  LoadedRouter router_;
  RequestForm form_;
};

}  // namespace routellm_fast::triton
