/* The part of Triton Inference Server's backend interface that this backend uses: names, values and signatures as
 * Triton documents them (TRITONBACKEND API 1.19). Nothing is linked: the server that loads the backend has the
 * functions. -DROUTELLM_FAST_TRITON_INCLUDE=DIR takes Triton's own headers instead. */
#ifndef ROUTELLM_FAST_TRITONBACKEND_API_H
#define ROUTELLM_FAST_TRITONBACKEND_API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TRITONBACKEND_API_VERSION_MAJOR 1
#define TRITONBACKEND_API_VERSION_MINOR 19

struct TRITONSERVER_Error;
struct TRITONSERVER_Message;
struct TRITONBACKEND_Backend;
struct TRITONBACKEND_BackendAttribute;
struct TRITONBACKEND_Model;
struct TRITONBACKEND_ModelInstance;
struct TRITONBACKEND_Request;
struct TRITONBACKEND_Response;
struct TRITONBACKEND_Input;
struct TRITONBACKEND_Output;

/* ---- values ----------------------------------------------------------------------------------------------------- */

typedef enum TRITONSERVER_errorcode_enum {
  TRITONSERVER_ERROR_UNKNOWN = 0,
  TRITONSERVER_ERROR_INTERNAL = 1,
  TRITONSERVER_ERROR_NOT_FOUND = 2,
  TRITONSERVER_ERROR_INVALID_ARG = 3,
  TRITONSERVER_ERROR_UNAVAILABLE = 4,
  TRITONSERVER_ERROR_UNSUPPORTED = 5,
  TRITONSERVER_ERROR_ALREADY_EXISTS = 6
} TRITONSERVER_Error_Code;

typedef enum TRITONSERVER_loglevel_enum {
  TRITONSERVER_LOG_INFO = 0,
  TRITONSERVER_LOG_WARN = 1,
  TRITONSERVER_LOG_ERROR = 2,
  TRITONSERVER_LOG_VERBOSE = 3
} TRITONSERVER_LogLevel;

typedef enum TRITONSERVER_datatype_enum {
  TRITONSERVER_TYPE_INVALID = 0,
  TRITONSERVER_TYPE_BOOL = 1,
  TRITONSERVER_TYPE_UINT8 = 2,
  TRITONSERVER_TYPE_UINT16 = 3,
  TRITONSERVER_TYPE_UINT32 = 4,
  TRITONSERVER_TYPE_UINT64 = 5,
  TRITONSERVER_TYPE_INT8 = 6,
  TRITONSERVER_TYPE_INT16 = 7,
  TRITONSERVER_TYPE_INT32 = 8,
  TRITONSERVER_TYPE_INT64 = 9,
  TRITONSERVER_TYPE_FP16 = 10,
  TRITONSERVER_TYPE_FP32 = 11,
  TRITONSERVER_TYPE_FP64 = 12,
  TRITONSERVER_TYPE_BYTES = 13
} TRITONSERVER_DataType;

typedef enum TRITONSERVER_memorytype_enum {
  TRITONSERVER_MEMORY_CPU = 0,
  TRITONSERVER_MEMORY_CPU_PINNED = 1,
  TRITONSERVER_MEMORY_GPU = 2
} TRITONSERVER_MemoryType;

typedef enum TRITONSERVER_instancegroupkind_enum {
  TRITONSERVER_INSTANCEGROUPKIND_AUTO = 0,
  TRITONSERVER_INSTANCEGROUPKIND_CPU = 1,
  TRITONSERVER_INSTANCEGROUPKIND_GPU = 2,
  TRITONSERVER_INSTANCEGROUPKIND_MODEL = 3
} TRITONSERVER_InstanceGroupKind;

typedef enum tritonserver_requestreleaseflag_enum {
  TRITONSERVER_REQUEST_RELEASE_ALL = 1
} TRITONSERVER_RequestReleaseFlag;

typedef enum tritonserver_responsecompleteflag_enum {
  TRITONSERVER_RESPONSE_COMPLETE_FINAL = 1
} TRITONSERVER_ResponseCompleteFlag;

typedef enum TRITONBACKEND_artifacttype_enum { TRITONBACKEND_ARTIFACT_FILESYSTEM = 0 } TRITONBACKEND_ArtifactType;

/* ---- the server: errors, log, JSON messages --------------------------------------------------------------------- */
/* A function that returns an error gives it away: NULL where all went well, else to be deleted or passed on. */

struct TRITONSERVER_Error* TRITONSERVER_ErrorNew(TRITONSERVER_Error_Code code, const char* msg);
void TRITONSERVER_ErrorDelete(struct TRITONSERVER_Error* error);
TRITONSERVER_Error_Code TRITONSERVER_ErrorCode(struct TRITONSERVER_Error* error);
const char* TRITONSERVER_ErrorMessage(struct TRITONSERVER_Error* error);

struct TRITONSERVER_Error* TRITONSERVER_LogMessage(TRITONSERVER_LogLevel level, const char* filename, int line,
                                                   const char* msg);

const char* TRITONSERVER_DataTypeString(TRITONSERVER_DataType datatype);
const char* TRITONSERVER_MemoryTypeString(TRITONSERVER_MemoryType memtype);

struct TRITONSERVER_Error* TRITONSERVER_MessageNewFromSerializedJson(struct TRITONSERVER_Message** message,
                                                                     const char* base, size_t byte_size);
struct TRITONSERVER_Error* TRITONSERVER_MessageSerializeToJson(struct TRITONSERVER_Message* message, const char** base,
                                                               size_t* byte_size);
struct TRITONSERVER_Error* TRITONSERVER_MessageDelete(struct TRITONSERVER_Message* message);

/* ---- backend, model, instance ----------------------------------------------------------------------------------- */

struct TRITONSERVER_Error* TRITONBACKEND_ApiVersion(uint32_t* major, uint32_t* minor);
struct TRITONSERVER_Error* TRITONBACKEND_BackendAttributeAddPreferredInstanceGroup(
    struct TRITONBACKEND_BackendAttribute* backend_attributes, TRITONSERVER_InstanceGroupKind kind, uint64_t count,
    const uint64_t* device_ids, uint64_t id_count);

struct TRITONSERVER_Error* TRITONBACKEND_ModelName(struct TRITONBACKEND_Model* model, const char** name);
struct TRITONSERVER_Error* TRITONBACKEND_ModelVersion(struct TRITONBACKEND_Model* model, uint64_t* version);
struct TRITONSERVER_Error* TRITONBACKEND_ModelRepository(struct TRITONBACKEND_Model* model,
                                                         TRITONBACKEND_ArtifactType* artifact_type,
                                                         const char** location);
struct TRITONSERVER_Error* TRITONBACKEND_ModelConfig(struct TRITONBACKEND_Model* model, uint32_t config_version,
                                                     struct TRITONSERVER_Message** model_config);
struct TRITONSERVER_Error* TRITONBACKEND_ModelAutoCompleteConfig(struct TRITONBACKEND_Model* model,
                                                                 bool* auto_complete_config);
struct TRITONSERVER_Error* TRITONBACKEND_ModelSetConfig(struct TRITONBACKEND_Model* model, uint32_t config_version,
                                                        struct TRITONSERVER_Message* model_config);
struct TRITONSERVER_Error* TRITONBACKEND_ModelState(struct TRITONBACKEND_Model* model, void** state);
struct TRITONSERVER_Error* TRITONBACKEND_ModelSetState(struct TRITONBACKEND_Model* model, void* state);

struct TRITONSERVER_Error* TRITONBACKEND_ModelInstanceKind(struct TRITONBACKEND_ModelInstance* instance,
                                                           TRITONSERVER_InstanceGroupKind* kind);
struct TRITONSERVER_Error* TRITONBACKEND_ModelInstanceModel(struct TRITONBACKEND_ModelInstance* instance,
                                                            struct TRITONBACKEND_Model** model);
struct TRITONSERVER_Error* TRITONBACKEND_ModelInstanceState(struct TRITONBACKEND_ModelInstance* instance, void** state);
struct TRITONSERVER_Error* TRITONBACKEND_ModelInstanceSetState(struct TRITONBACKEND_ModelInstance* instance,
                                                               void* state);

/* Times are std::chrono::steady_clock's, in nanoseconds. */
struct TRITONSERVER_Error* TRITONBACKEND_ModelInstanceReportStatistics(struct TRITONBACKEND_ModelInstance* instance,
                                                                       struct TRITONBACKEND_Request* request,
                                                                       bool success, uint64_t exec_start_ns,
                                                                       uint64_t compute_start_ns,
                                                                       uint64_t compute_end_ns, uint64_t exec_end_ns);
struct TRITONSERVER_Error* TRITONBACKEND_ModelInstanceReportBatchStatistics(
    struct TRITONBACKEND_ModelInstance* instance, uint64_t batch_size, uint64_t exec_start_ns,
    uint64_t compute_start_ns, uint64_t compute_end_ns, uint64_t exec_end_ns);

/* ---- requests and responses ------------------------------------------------------------------------------------- */

struct TRITONSERVER_Error* TRITONBACKEND_RequestInputCount(struct TRITONBACKEND_Request* request, uint32_t* count);
struct TRITONSERVER_Error* TRITONBACKEND_RequestInputByIndex(struct TRITONBACKEND_Request* request, uint32_t index,
                                                             struct TRITONBACKEND_Input** input);
struct TRITONSERVER_Error* TRITONBACKEND_RequestOutputCount(struct TRITONBACKEND_Request* request, uint32_t* count);
struct TRITONSERVER_Error* TRITONBACKEND_RequestOutputName(struct TRITONBACKEND_Request* request, uint32_t index,
                                                           const char** output_name);
struct TRITONSERVER_Error* TRITONBACKEND_RequestRelease(struct TRITONBACKEND_Request* request, uint32_t release_flags);

struct TRITONSERVER_Error* TRITONBACKEND_InputProperties(struct TRITONBACKEND_Input* input, const char** name,
                                                         TRITONSERVER_DataType* datatype, const int64_t** shape,
                                                         uint32_t* dims_count, uint64_t* byte_size,
                                                         uint32_t* buffer_count);
/* memory_type and memory_type_id: what is wished for; then what it is. */
struct TRITONSERVER_Error* TRITONBACKEND_InputBuffer(struct TRITONBACKEND_Input* input, uint32_t index,
                                                     const void** buffer, uint64_t* buffer_byte_size,
                                                     TRITONSERVER_MemoryType* memory_type, int64_t* memory_type_id);

struct TRITONSERVER_Error* TRITONBACKEND_ResponseNew(struct TRITONBACKEND_Response** response,
                                                     struct TRITONBACKEND_Request* request);
struct TRITONSERVER_Error* TRITONBACKEND_ResponseOutput(struct TRITONBACKEND_Response* response,
                                                        struct TRITONBACKEND_Output** output, const char* name,
                                                        TRITONSERVER_DataType datatype, const int64_t* shape,
                                                        uint32_t dims_count);
struct TRITONSERVER_Error* TRITONBACKEND_OutputBuffer(struct TRITONBACKEND_Output* output, void** buffer,
                                                      uint64_t buffer_byte_size, TRITONSERVER_MemoryType* memory_type,
                                                      int64_t* memory_type_id);
/* Takes the response; the error stays the caller's. */
struct TRITONSERVER_Error* TRITONBACKEND_ResponseSend(struct TRITONBACKEND_Response* response, uint32_t send_flags,
                                                      struct TRITONSERVER_Error* error);

/* ---- what a backend implements ---------------------------------------------------------------------------------- */

struct TRITONSERVER_Error* TRITONBACKEND_Initialize(struct TRITONBACKEND_Backend* backend);
struct TRITONSERVER_Error* TRITONBACKEND_GetBackendAttribute(struct TRITONBACKEND_Backend* backend,
                                                             struct TRITONBACKEND_BackendAttribute* backend_attributes);
struct TRITONSERVER_Error* TRITONBACKEND_ModelInitialize(struct TRITONBACKEND_Model* model);
struct TRITONSERVER_Error* TRITONBACKEND_ModelFinalize(struct TRITONBACKEND_Model* model);
struct TRITONSERVER_Error* TRITONBACKEND_ModelInstanceInitialize(struct TRITONBACKEND_ModelInstance* instance);
struct TRITONSERVER_Error* TRITONBACKEND_ModelInstanceFinalize(struct TRITONBACKEND_ModelInstance* instance);
struct TRITONSERVER_Error* TRITONBACKEND_ModelInstanceExecute(struct TRITONBACKEND_ModelInstance* instance,
                                                              struct TRITONBACKEND_Request** requests,
                                                              uint32_t request_count);

#ifdef __cplusplus
}
#endif

#endif
