// The least that a C++ backend for Triton can do for a router's requests: it looks at the first byte of each PROMPT and
// gives constants. What it costs is the server's own cost, against which the real backend is held. Built by
// contenders.py.
#include <chrono>
#include <cstdint>
#include <cstring>

#include "tritonbackend_api.h"

#define EXPORTED extern "C" __attribute__((visibility("default")))

namespace {

constexpr char kName[] = "weak-model";
constexpr std::uint32_t kNameBytes = sizeof kName - 1;

std::uint64_t now_ns() {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
          .count());
}

// The benchmark's requests are good, and hold nothing but one PROMPT. An error would show as an answer that is missing.
bool drop(TRITONSERVER_Error* error) {
  if (error == nullptr) return false;
  TRITONSERVER_ErrorDelete(error);
  return true;
}

unsigned first_byte(TRITONBACKEND_Request* request) {
  TRITONBACKEND_Input* input = nullptr;
  const void* data = nullptr;
  std::uint64_t bytes = 0;
  TRITONSERVER_MemoryType memory = TRITONSERVER_MEMORY_CPU;
  std::int64_t device = 0;
  if (drop(TRITONBACKEND_RequestInputByIndex(request, 0, &input)) ||
      drop(TRITONBACKEND_InputBuffer(input, 0, &data, &bytes, &memory, &device)) || bytes <= sizeof(std::uint32_t))
    return 0;
  return static_cast<const unsigned char*>(data)[sizeof(std::uint32_t)];
}

void* buffer(TRITONBACKEND_Response* response, const char* name, TRITONSERVER_DataType type, std::uint64_t bytes) {
  const std::int64_t shape[2] = {1, 1};
  TRITONBACKEND_Output* output = nullptr;
  void* data = nullptr;
  TRITONSERVER_MemoryType memory = TRITONSERVER_MEMORY_CPU;
  std::int64_t device = 0;
  if (drop(TRITONBACKEND_ResponseOutput(response, &output, name, type, shape, 2)) ||
      drop(TRITONBACKEND_OutputBuffer(output, &data, bytes, &memory, &device)))
    return nullptr;
  return data;
}

void answer(TRITONBACKEND_Response* response, unsigned byte) {
  const float win_rate = static_cast<float>(byte) / 1024.0F;
  if (void* out = buffer(response, "WIN_RATE", TRITONSERVER_TYPE_FP32, sizeof win_rate))
    std::memcpy(out, &win_rate, sizeof win_rate);
  if (void* out = buffer(response, "IS_STRONG", TRITONSERVER_TYPE_BOOL, 1)) std::memset(out, 0, 1);
  if (void* out = buffer(response, "MODEL", TRITONSERVER_TYPE_BYTES, sizeof kNameBytes + kNameBytes)) {
    std::memcpy(out, &kNameBytes, sizeof kNameBytes);
    std::memcpy(static_cast<char*>(out) + sizeof kNameBytes, kName, kNameBytes);
  }
}

}  // namespace

EXPORTED TRITONSERVER_Error* TRITONBACKEND_ModelInstanceExecute(TRITONBACKEND_ModelInstance* instance,
                                                                TRITONBACKEND_Request** requests,
                                                                const std::uint32_t count) {
  const std::uint64_t start_ns = now_ns();
  for (std::uint32_t i = 0; i < count; ++i) {
    const unsigned byte = first_byte(requests[i]);
    TRITONBACKEND_Response* response = nullptr;
    if (!drop(TRITONBACKEND_ResponseNew(&response, requests[i]))) {
      answer(response, byte);
      drop(TRITONBACKEND_ResponseSend(response, TRITONSERVER_RESPONSE_COMPLETE_FINAL, nullptr));
    }
    const std::uint64_t end_ns = now_ns();
    drop(TRITONBACKEND_ModelInstanceReportStatistics(instance, requests[i], true, start_ns, start_ns, end_ns, end_ns));
    drop(TRITONBACKEND_RequestRelease(requests[i], TRITONSERVER_REQUEST_RELEASE_ALL));
  }
  const std::uint64_t end_ns = now_ns();
  drop(TRITONBACKEND_ModelInstanceReportBatchStatistics(instance, count, start_ns, start_ns, end_ns, end_ns));
  return nullptr;
}
