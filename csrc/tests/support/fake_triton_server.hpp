#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "triton/server_api.hpp"

/// A fake of Triton Inference Server: the functions that the backend calls, on objects that a test fills and looks
/// into. It lets through what the real server refuses before a backend sees it, fails where a test says so, and counts
/// what it gave away and got back.

struct TRITONSERVER_Error {
  TRITONSERVER_Error_Code code;
  std::string message;
};

struct TRITONSERVER_Message {
  std::string json;
};

struct TRITONBACKEND_BackendAttribute {
  std::vector<TRITONSERVER_InstanceGroupKind> preferred;
};

struct TRITONBACKEND_Model {
  std::string name = "router";
  std::uint64_t version = 1;
  std::string location;
  std::string config = "{}";
  bool completes_config = true;
  int config_changes = 0;
  void* state = nullptr;
};

struct TRITONBACKEND_ModelInstance {
  TRITONBACKEND_Model* model = nullptr;
  TRITONSERVER_InstanceGroupKind kind = TRITONSERVER_INSTANCEGROUPKIND_CPU;
  void* state = nullptr;
  std::uint64_t good_requests = 0;
  std::uint64_t bad_requests = 0;
  std::vector<std::uint64_t> batch_sizes;
};

struct TRITONBACKEND_Input {
  std::string name;
  TRITONSERVER_DataType type = TRITONSERVER_TYPE_INVALID;
  std::vector<std::int64_t> shape;
  std::vector<std::string> buffers;
  TRITONSERVER_MemoryType memory = TRITONSERVER_MEMORY_CPU;
  std::function<void()> when_read = {};  // called before a buffer is given out
};

struct TRITONBACKEND_Output {
  TRITONSERVER_DataType type = TRITONSERVER_TYPE_INVALID;
  std::vector<std::int64_t> shape;
  std::string bytes;
  TRITONSERVER_MemoryType memory = TRITONSERVER_MEMORY_CPU;
};

/// What came back for a request, kept with it: the response object itself is gone once it is sent.
struct Reply {
  int times_sent = 0;
  std::string error;  // empty: none
  TRITONSERVER_Error_Code code = TRITONSERVER_ERROR_UNKNOWN;
  std::map<std::string, TRITONBACKEND_Output> outputs;
};

struct TRITONBACKEND_Request {
  std::vector<TRITONBACKEND_Input> inputs;
  std::vector<std::string> outputs{"WIN_RATE", "IS_STRONG", "MODEL"};
  TRITONSERVER_MemoryType output_memory = TRITONSERVER_MEMORY_CPU;
  std::string failing_function;  // fails for this request, e.g. "ResponseNew"
  int times_released = 0;
  int times_reported = 0;
  Reply reply;
};

struct TRITONBACKEND_Response {
  TRITONBACKEND_Request* request;
};

namespace fake_triton {

/// Objects that were made and not given back. Every test ends with zero of each.
struct Live {
  std::atomic<int> errors{0};
  std::atomic<int> messages{0};
  std::atomic<int> responses{0};
};
Live& live();

/// The version that the server says it has.
std::array<std::uint32_t, 2>& api_version();

/// What was logged as an error since the last call.
std::vector<std::string> take_logged_errors();

}  // namespace fake_triton
