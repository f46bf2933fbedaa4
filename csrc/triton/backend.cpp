// The functions that Triton calls. Each finds the object behind a handle, passes the call on and lets no exception
// through.
#include <cstdint>
#include <memory>
#include <string>

#include "routellm_fast.h"
#include "triton/execution.hpp"
#include "triton/model.hpp"
#include "triton/server_api.hpp"

#define ROUTELLM_FAST_EXPORTED __attribute__((visibility("default")))

namespace {

using routellm_fast::triton::check;
using routellm_fast::triton::Execution;
using routellm_fast::triton::Failure;
using routellm_fast::triton::guarded;
using routellm_fast::triton::Model;

Model* model_of(TRITONBACKEND_Model* handle) {
  void* state = nullptr;
  check(TRITONBACKEND_ModelState(handle, &state));
  return static_cast<Model*>(state);
}

Execution* execution_of(TRITONBACKEND_ModelInstance* handle) {
  void* state = nullptr;
  check(TRITONBACKEND_ModelInstanceState(handle, &state));
  return static_cast<Execution*>(state);
}

}  // namespace

extern "C" {

ROUTELLM_FAST_EXPORTED TRITONSERVER_Error* TRITONBACKEND_Initialize(TRITONBACKEND_Backend* /*backend*/) {
  return guarded([&] {
    std::uint32_t major = 0;
    std::uint32_t minor = 0;
    check(TRITONBACKEND_ApiVersion(&major, &minor));
    // A minor version only adds functions, and one that is missing here has kept this library from being loaded.
    if (major != TRITONBACKEND_API_VERSION_MAJOR)
      throw Failure(TRITONSERVER_ERROR_UNSUPPORTED,
                    "the server has version " + std::to_string(major) + "." + std::to_string(minor) +
                        " of the backend interface, and the routellm backend was built for version " +
                        std::to_string(TRITONBACKEND_API_VERSION_MAJOR));
    routellm_fast::triton::log(TRITONSERVER_LOG_INFO, std::string("routellm backend ") + routellm_version(), __FILE__,
                               __LINE__);
  });
}

ROUTELLM_FAST_EXPORTED TRITONSERVER_Error* TRITONBACKEND_GetBackendAttribute(
    TRITONBACKEND_Backend* /*backend*/, TRITONBACKEND_BackendAttribute* backend_attributes) {
  // Without this a server with GPUs would make one instance on each of them.
  return TRITONBACKEND_BackendAttributeAddPreferredInstanceGroup(backend_attributes, TRITONSERVER_INSTANCEGROUPKIND_CPU,
                                                                 0, nullptr, 0);
}

ROUTELLM_FAST_EXPORTED TRITONSERVER_Error* TRITONBACKEND_ModelInitialize(TRITONBACKEND_Model* model) {
  return guarded([&] {
    auto loaded = std::make_unique<Model>(Model::load(model));
    check(TRITONBACKEND_ModelSetState(model, loaded.get()));
    [[maybe_unused]] const Model* until_finalized = loaded.release();
  });
}

ROUTELLM_FAST_EXPORTED TRITONSERVER_Error* TRITONBACKEND_ModelFinalize(TRITONBACKEND_Model* model) {
  return guarded([&] { delete model_of(model); });
}

ROUTELLM_FAST_EXPORTED TRITONSERVER_Error* TRITONBACKEND_ModelInstanceInitialize(
    TRITONBACKEND_ModelInstance* instance) {
  return guarded([&] {
    TRITONSERVER_InstanceGroupKind kind = TRITONSERVER_INSTANCEGROUPKIND_AUTO;
    check(TRITONBACKEND_ModelInstanceKind(instance, &kind));
    if (kind == TRITONSERVER_INSTANCEGROUPKIND_GPU)
      throw Failure(TRITONSERVER_ERROR_UNSUPPORTED,
                    "the model's instance_group has KIND_GPU, and routers run on the CPU: write KIND_CPU");
    TRITONBACKEND_Model* model = nullptr;
    check(TRITONBACKEND_ModelInstanceModel(instance, &model));
    auto execution = std::make_unique<Execution>(*model_of(model));
    check(TRITONBACKEND_ModelInstanceSetState(instance, execution.get()));
    [[maybe_unused]] const Execution* until_finalized = execution.release();
  });
}

ROUTELLM_FAST_EXPORTED TRITONSERVER_Error* TRITONBACKEND_ModelInstanceFinalize(TRITONBACKEND_ModelInstance* instance) {
  return guarded([&] { delete execution_of(instance); });
}

ROUTELLM_FAST_EXPORTED TRITONSERVER_Error* TRITONBACKEND_ModelInstanceExecute(TRITONBACKEND_ModelInstance* instance,
                                                                              TRITONBACKEND_Request** requests,
                                                                              const std::uint32_t request_count) {
  return guarded([&] { execution_of(instance)->run(instance, requests, request_count); });
}

}  // extern "C"
