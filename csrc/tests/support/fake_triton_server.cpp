#include "support/fake_triton_server.hpp"

#include <mutex>
#include <utility>

namespace fake_triton {
namespace {

std::mutex log_mutex;
std::vector<std::string> logged_errors;

TRITONSERVER_Error* refused(const TRITONBACKEND_Request* request, const char* function) {
  if (request->failing_function != function) return nullptr;
  return TRITONSERVER_ErrorNew(TRITONSERVER_ERROR_INTERNAL, (std::string("the server refused ") + function).c_str());
}

}  // namespace

Live& live() {
  static Live counts;
  return counts;
}

std::array<std::uint32_t, 2>& api_version() {
  static std::array<std::uint32_t, 2> version{TRITONBACKEND_API_VERSION_MAJOR, TRITONBACKEND_API_VERSION_MINOR};
  return version;
}

std::vector<std::string> take_logged_errors() {
  const std::scoped_lock lock(log_mutex);
  return std::exchange(logged_errors, {});
}

}  // namespace fake_triton

using fake_triton::live;
using fake_triton::refused;

// NOLINTBEGIN(misc-const-correctness): the signatures are those of the server
extern "C" {

TRITONSERVER_Error* TRITONSERVER_ErrorNew(TRITONSERVER_Error_Code code, const char* msg) {
  ++live().errors;
  return new TRITONSERVER_Error{code, msg};
}

void TRITONSERVER_ErrorDelete(TRITONSERVER_Error* error) {
  --live().errors;
  delete error;
}

TRITONSERVER_Error_Code TRITONSERVER_ErrorCode(TRITONSERVER_Error* error) { return error->code; }
const char* TRITONSERVER_ErrorMessage(TRITONSERVER_Error* error) { return error->message.c_str(); }

TRITONSERVER_Error* TRITONSERVER_LogMessage(TRITONSERVER_LogLevel level, const char* /*filename*/, const int /*line*/,
                                            const char* msg) {
  const std::scoped_lock lock(fake_triton::log_mutex);
  if (level == TRITONSERVER_LOG_ERROR) fake_triton::logged_errors.emplace_back(msg);
  return nullptr;
}

const char* TRITONSERVER_DataTypeString(TRITONSERVER_DataType datatype) {
  switch (datatype) {
    case TRITONSERVER_TYPE_FP32:
      return "FP32";
    case TRITONSERVER_TYPE_FP64:
      return "FP64";
    case TRITONSERVER_TYPE_BYTES:
      return "BYTES";
    default:
      return "another type";
  }
}

TRITONSERVER_Error* TRITONSERVER_MessageNewFromSerializedJson(TRITONSERVER_Message** message, const char* base,
                                                              size_t byte_size) {
  ++live().messages;
  *message = new TRITONSERVER_Message{std::string(base, byte_size)};
  return nullptr;
}

TRITONSERVER_Error* TRITONSERVER_MessageSerializeToJson(TRITONSERVER_Message* message, const char** base,
                                                        size_t* byte_size) {
  *base = message->json.data();
  *byte_size = message->json.size();
  return nullptr;
}

TRITONSERVER_Error* TRITONSERVER_MessageDelete(TRITONSERVER_Message* message) {
  --live().messages;
  delete message;
  return nullptr;
}

TRITONSERVER_Error* TRITONBACKEND_ApiVersion(uint32_t* major, uint32_t* minor) {
  *major = fake_triton::api_version()[0];
  *minor = fake_triton::api_version()[1];
  return nullptr;
}

TRITONSERVER_Error* TRITONBACKEND_BackendAttributeAddPreferredInstanceGroup(
    TRITONBACKEND_BackendAttribute* backend_attributes, const TRITONSERVER_InstanceGroupKind kind,
    const uint64_t /*count*/, const uint64_t* /*device_ids*/, const uint64_t /*id_count*/) {
  backend_attributes->preferred.push_back(kind);
  return nullptr;
}

TRITONSERVER_Error* TRITONBACKEND_ModelName(TRITONBACKEND_Model* model, const char** name) {
  *name = model->name.c_str();
  return nullptr;
}

TRITONSERVER_Error* TRITONBACKEND_ModelVersion(TRITONBACKEND_Model* model, uint64_t* version) {
  *version = model->version;
  return nullptr;
}

TRITONSERVER_Error* TRITONBACKEND_ModelRepository(TRITONBACKEND_Model* model, TRITONBACKEND_ArtifactType* artifact_type,
                                                  const char** location) {
  *artifact_type = TRITONBACKEND_ARTIFACT_FILESYSTEM;
  *location = model->location.c_str();
  return nullptr;
}

TRITONSERVER_Error* TRITONBACKEND_ModelConfig(TRITONBACKEND_Model* model, const uint32_t /*config_version*/,
                                              TRITONSERVER_Message** model_config) {
  return TRITONSERVER_MessageNewFromSerializedJson(model_config, model->config.data(), model->config.size());
}

TRITONSERVER_Error* TRITONBACKEND_ModelAutoCompleteConfig(TRITONBACKEND_Model* model, bool* auto_complete_config) {
  *auto_complete_config = model->completes_config;
  return nullptr;
}

TRITONSERVER_Error* TRITONBACKEND_ModelSetConfig(TRITONBACKEND_Model* model, const uint32_t /*config_version*/,
                                                 TRITONSERVER_Message* model_config) {
  model->config = model_config->json;
  ++model->config_changes;
  return nullptr;
}

TRITONSERVER_Error* TRITONBACKEND_ModelState(TRITONBACKEND_Model* model, void** state) {
  *state = model->state;
  return nullptr;
}

TRITONSERVER_Error* TRITONBACKEND_ModelSetState(TRITONBACKEND_Model* model, void* state) {
  model->state = state;
  return nullptr;
}

TRITONSERVER_Error* TRITONBACKEND_ModelInstanceKind(TRITONBACKEND_ModelInstance* instance,
                                                    TRITONSERVER_InstanceGroupKind* kind) {
  *kind = instance->kind;
  return nullptr;
}

TRITONSERVER_Error* TRITONBACKEND_ModelInstanceModel(TRITONBACKEND_ModelInstance* instance,
                                                     TRITONBACKEND_Model** model) {
  *model = instance->model;
  return nullptr;
}

TRITONSERVER_Error* TRITONBACKEND_ModelInstanceState(TRITONBACKEND_ModelInstance* instance, void** state) {
  *state = instance->state;
  return nullptr;
}

TRITONSERVER_Error* TRITONBACKEND_ModelInstanceSetState(TRITONBACKEND_ModelInstance* instance, void* state) {
  instance->state = state;
  return nullptr;
}

TRITONSERVER_Error* TRITONBACKEND_ModelInstanceReportStatistics(TRITONBACKEND_ModelInstance* instance,
                                                                TRITONBACKEND_Request* request, const bool success,
                                                                const uint64_t exec_start_ns,
                                                                const uint64_t compute_start_ns,
                                                                const uint64_t compute_end_ns,
                                                                const uint64_t exec_end_ns) {
  const bool is_ordered = 0 < exec_start_ns && exec_start_ns <= compute_start_ns &&
                          compute_start_ns <= compute_end_ns && compute_end_ns <= exec_end_ns;
  if (!is_ordered || request->times_released != 0)
    return TRITONSERVER_ErrorNew(TRITONSERVER_ERROR_INVALID_ARG, "times out of order, or a request already released");
  ++request->times_reported;
  ++(success ? instance->good_requests : instance->bad_requests);
  return refused(request, "ReportStatistics");
}

TRITONSERVER_Error* TRITONBACKEND_ModelInstanceReportBatchStatistics(
    TRITONBACKEND_ModelInstance* instance, const uint64_t batch_size, const uint64_t /*exec_start_ns*/,
    const uint64_t /*compute_start_ns*/, const uint64_t /*compute_end_ns*/, const uint64_t /*exec_end_ns*/) {
  instance->batch_sizes.push_back(batch_size);
  return nullptr;
}

TRITONSERVER_Error* TRITONBACKEND_RequestInputCount(TRITONBACKEND_Request* request, uint32_t* count) {
  *count = static_cast<uint32_t>(request->inputs.size());
  return refused(request, "RequestInputCount");
}

TRITONSERVER_Error* TRITONBACKEND_RequestInputByIndex(TRITONBACKEND_Request* request, const uint32_t index,
                                                      TRITONBACKEND_Input** input) {
  *input = &request->inputs.at(index);
  return nullptr;
}

TRITONSERVER_Error* TRITONBACKEND_RequestOutputCount(TRITONBACKEND_Request* request, uint32_t* count) {
  *count = static_cast<uint32_t>(request->outputs.size());
  return nullptr;
}

TRITONSERVER_Error* TRITONBACKEND_RequestOutputName(TRITONBACKEND_Request* request, const uint32_t index,
                                                    const char** output_name) {
  *output_name = request->outputs.at(index).c_str();
  return nullptr;
}

TRITONSERVER_Error* TRITONBACKEND_RequestRelease(TRITONBACKEND_Request* request, uint32_t /*release_flags*/) {
  ++request->times_released;
  // What the backend still holds of the request must not be looked at any more.
  for (TRITONBACKEND_Input& input : request->inputs) {
    for (std::string& buffer : input.buffers) buffer.assign(buffer.size(), '\xff');
  }
  return refused(request, "RequestRelease");
}

TRITONSERVER_Error* TRITONBACKEND_InputProperties(TRITONBACKEND_Input* input, const char** name,
                                                  TRITONSERVER_DataType* datatype, const int64_t** shape,
                                                  uint32_t* dims_count, uint64_t* byte_size, uint32_t* buffer_count) {
  *name = input->name.c_str();
  *datatype = input->type;
  *shape = input->shape.data();
  *dims_count = static_cast<uint32_t>(input->shape.size());
  *byte_size = 0;
  for (const std::string& buffer : input->buffers) *byte_size += buffer.size();
  *buffer_count = static_cast<uint32_t>(input->buffers.size());
  return nullptr;
}

TRITONSERVER_Error* TRITONBACKEND_InputBuffer(TRITONBACKEND_Input* input, const uint32_t index, const void** buffer,
                                              uint64_t* buffer_byte_size, TRITONSERVER_MemoryType* memory_type,
                                              int64_t* memory_type_id) {
  if (input->when_read) input->when_read();
  *buffer = input->buffers.at(index).data();
  *buffer_byte_size = input->buffers.at(index).size();
  *memory_type = input->memory;
  *memory_type_id = 0;
  return nullptr;
}

TRITONSERVER_Error* TRITONBACKEND_ResponseNew(TRITONBACKEND_Response** response, TRITONBACKEND_Request* request) {
  if (TRITONSERVER_Error* error = refused(request, "ResponseNew"); error != nullptr) return error;
  ++live().responses;
  *response = new TRITONBACKEND_Response{request};
  return nullptr;
}

TRITONSERVER_Error* TRITONBACKEND_ResponseOutput(TRITONBACKEND_Response* response, TRITONBACKEND_Output** output,
                                                 const char* name, const TRITONSERVER_DataType datatype,
                                                 const int64_t* shape, const uint32_t dims_count) {
  TRITONBACKEND_Output& made = response->request->reply.outputs[name];
  made.type = datatype;
  made.shape.assign(shape, shape + dims_count);
  made.memory = response->request->output_memory;
  *output = &made;
  return refused(response->request, "ResponseOutput");
}

TRITONSERVER_Error* TRITONBACKEND_OutputBuffer(TRITONBACKEND_Output* output, void** buffer,
                                               const uint64_t buffer_byte_size, TRITONSERVER_MemoryType* memory_type,
                                               int64_t* memory_type_id) {
  output->bytes.assign(buffer_byte_size, '\xff');
  *buffer = output->bytes.data();
  *memory_type = output->memory;
  *memory_type_id = 0;
  return nullptr;
}

TRITONSERVER_Error* TRITONBACKEND_ResponseSend(TRITONBACKEND_Response* response, const uint32_t /*send_flags*/,
                                               TRITONSERVER_Error* error) {
  TRITONBACKEND_Request* request = response->request;
  ++request->reply.times_sent;
  if (error != nullptr) {
    request->reply.error = error->message;
    request->reply.code = error->code;
    request->reply.outputs.clear();
  }
  --live().responses;
  delete response;
  return refused(request, "ResponseSend");
}

}  // extern "C"
// NOLINTEND(misc-const-correctness)
