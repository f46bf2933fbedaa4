#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "directory/reader.hpp"
#include "python/arguments.hpp"
#include "python/subjects.hpp"

namespace routellm_fast {
namespace {

// --- JSON -----------------------------------------------------------------------------------------------------------

// Text of a directory may hold lone surrogates, which JSON can write.
py::object text_of(std::string_view text) {
  PyObject* const result = PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "surrogatepass");
  if (result == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(result);
}

py::object number_of(const JsonNumber& number) {
  if (!number.is_integer) return py::float_(number.value);
  if (number.integer) return py::int_(*number.integer);
  PyObject* const result = PyLong_FromString(number.digits->c_str(), nullptr, 10);
  if (result == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(result);
}

py::object object_of(const JsonValue& value) {  // NOLINT(misc-no-recursion): the parser bounds the depth
  if (const bool* const boolean = value.boolean()) return py::bool_(*boolean);
  if (const JsonNumber* const number = value.number()) return number_of(*number);
  if (const std::string* const text = value.text()) return text_of(*text);
  if (const auto* const items = value.array()) {
    py::list list(items->size());
    for (std::size_t i = 0; i < items->size(); ++i) list[i] = object_of((*items)[i]);
    return list;
  }
  if (const auto* const members = value.object()) {
    py::dict dict;
    for (const auto& [key, member] : *members) dict[text_of(key)] = object_of(member);
    return dict;
  }
  return py::none();
}

// --- layouts --------------------------------------------------------------------------------------------------------

using Keys = std::vector<std::tuple<std::string, std::string, bool>>;

JsonType json_type_named(const std::string& name) {
  constexpr std::array<std::pair<std::string_view, JsonType>, 6> kTypes{{{"boolean", JsonType::kBoolean},
                                                                         {"integer", JsonType::kInteger},
                                                                         {"number", JsonType::kNumber},
                                                                         {"string", JsonType::kString},
                                                                         {"list", JsonType::kList},
                                                                         {"object", JsonType::kObject}}};
  for (const auto& [known, type] : kTypes) {
    if (name == known) return type;
  }
  throw Error(ErrorCode::kInvalidArgument,
              "a key of a manifest is a boolean, integer, number, string, list or object, found " + name + ".");
}

DirectoryLayout layout_of(std::string manifest_file, const Keys& keys) {
  DirectoryLayout layout{std::move(manifest_file), {}};
  for (const auto& [name, type, may_be_null] : keys) layout.keys.push_back({name, json_type_named(type), may_be_null});
  return layout;
}

// --- tensors --------------------------------------------------------------------------------------------------------

py::array array_over(const Tensor& tensor, const py::object& owner) {
  std::vector<py::ssize_t> shape;
  for (const std::uint64_t count : tensor.shape) shape.push_back(static_cast<py::ssize_t>(count));
  return {py::dtype(name_of(tensor.type)), shape, {}, tensor.data, owner};
}

bool is_aligned(const Tensor& tensor) {
  return reinterpret_cast<std::uintptr_t>(tensor.data) % size_of(tensor.type) == 0;
}

// A view of the array's values, which keeps the array. It is never written to.
Tensor tensor_over(const std::string& name, const py::object& value) {
  if (!py::isinstance<py::array>(value)) {
    throw Error(ErrorCode::kInvalidArgument, "tensor " + name + " must be an array, found " + describe(value) + ".");
  }
  const auto array = py::reinterpret_borrow<py::array>(value);
  const auto type = type_named(py::str(array.dtype().attr("name")).cast<std::string>());
  const bool is_plain = (array.flags() & py::array::c_style) != 0 && array.dtype().byteorder() != '>';
  if (!type || !is_plain) {
    throw Error(ErrorCode::kInvalidArgument,
                "tensor " + name +
                    " must be a C-contiguous array of numbers in the machine's byte order, "
                    "found " +
                    describe(value) + ".");
  }
  Tensor tensor{.type = *type,
                .shape = {},
                .data = static_cast<const std::byte*>(array.data()),
                .bytes = static_cast<std::size_t>(array.nbytes()),
                .owner = keep_alive(value)};
  for (py::ssize_t k = 0; k < array.ndim(); ++k) tensor.shape.push_back(static_cast<std::uint64_t>(array.shape(k)));
  return tensor;
}

TensorMap tensors_over(const py::dict& arrays) {
  TensorMap tensors;
  for (const auto& [key, value] : arrays) {
    const auto name = key.cast<std::string>();
    tensors.emplace(name, tensor_over(name, py::reinterpret_borrow<py::object>(value)));
  }
  return tensors;
}

// The file that an array is mapped from, or a part of it; null for an array of memory.
std::shared_ptr<const MappedFile> file_behind(const py::handle& array) {
  auto owner = py::reinterpret_borrow<py::object>(array);
  while (py::isinstance<py::array>(owner)) owner = owner.attr("base");
  return py::isinstance<MappedFile>(owner) ? owner.cast<std::shared_ptr<MappedFile>>() : nullptr;
}

// --- contents -------------------------------------------------------------------------------------------------------

// Files are read into objects of Python, so that none is held twice: weights into a bytearray, over which arrays may be
// written to, all others into bytes.
FileBuffer allocate_object(const std::string& name, std::size_t bytes) {
  const py::gil_scoped_acquire lock;
  const auto size = static_cast<Py_ssize_t>(bytes);
  const bool is_weights = name == kWeightsFile;
  const auto object = py::reinterpret_steal<py::object>(is_weights ? PyByteArray_FromStringAndSize(nullptr, 0)
                                                                   : PyBytes_FromStringAndSize(nullptr, size));
  // Made empty first: a bytearray that cannot be made so large is not freed cleanly by Python.
  if (!object || (is_weights && PyByteArray_Resize(object.ptr(), size) != 0)) {
    PyErr_Clear();
    throw std::bad_alloc();
  }
  return {is_weights ? PyByteArray_AS_STRING(object.ptr()) : PyBytes_AS_STRING(object.ptr()), keep_alive(object)};
}

// The object that allocate_object made.
py::object object_behind(const std::shared_ptr<const void>& owner) {
  return py::reinterpret_borrow<py::object>(static_cast<PyObject*>(const_cast<void*>(owner.get())));
}

DirectoryContents read(const py::bytes& path, std::string manifest_file, const Keys& keys,
                       const std::optional<std::string>& digest) {
  const DirectoryLayout layout = layout_of(std::move(manifest_file), keys);
  const std::string place = path;
  const py::gil_scoped_release unlock;
  return read_current(
      [&] { return DirectoryHandle(place, layout.manifest_file); },
      [&](const DirectoryHandle& directory) { return read_directory(directory, layout, allocate_object, digest); });
}

std::uint64_t verify(const py::bytes& path, std::string manifest_file, const Keys& keys,
                     const std::optional<py::function>& on_progress) {
  const DirectoryLayout layout = layout_of(std::move(manifest_file), keys);
  const std::string place = path;
  const OnVerified report = [&](std::uint64_t done, std::uint64_t total) {
    const py::gil_scoped_acquire lock;
    if (on_progress) {
      (*on_progress)(done, total);
    } else if (PyErr_CheckSignals() != 0) {
      throw py::error_already_set();
    }
  };
  const py::gil_scoped_release unlock;
  return read_current([&] { return DirectoryHandle(place, layout.manifest_file); },
                      [&](const DirectoryHandle& directory) {
                        return verify_mapped(directory, read_directory(directory, layout), report);
                      });
}

DirectoryContents contents_in_memory(std::string name, std::string_view manifest, const py::dict& tensors,
                                     const py::dict& mapped) {
  DirectoryContents contents;
  contents.path = std::move(name);
  try {
    contents.manifest = parse_json(manifest);
  } catch (const Error& error) {
    throw Error(ErrorCode::kInvalidArgument,
                contents.path + " has settings that JSON cannot hold (" + error.what() + ").");
  }
  check_manifest(contents.manifest, router_layout(), contents.path);
  contents.tensors = tensors_over(tensors);
  contents.mapped = tensors_over(mapped);
  for (const auto& [key, array] : mapped) {
    if (auto file = file_behind(array)) contents.mapped_files.emplace(key.cast<std::string>(), std::move(file));
  }
  return contents;
}

py::object path_of(const std::string& path) {
  PyObject* const result = PyUnicode_DecodeFSDefaultAndSize(path.data(), static_cast<Py_ssize_t>(path.size()));
  if (result == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(result);
}

}  // namespace

void bind_directory(py::module_& m) {
  m.attr("FORMAT_VERSION") = kFormatVersion;

  py::class_<MappedFile, std::shared_ptr<MappedFile>>(m, "MappedFile",
                                                      "The file that an array is mapped from, as it was when opened.")
      .def_property_readonly("path", [](const MappedFile& self) { return path_of(self.path()); })
      .def_property_readonly("header", [](const MappedFile& self) { return py::bytes(self.header()); })
      .def_property_readonly("sha256", &MappedFile::sha256)
      .def_property_readonly(
          "identity",
          [](const MappedFile& self) {
            const FileIdentity& found = self.identity();
            return py::make_tuple(found.device, found.inode, found.bytes, found.modified_ns);
          },
          "st_dev, st_ino, st_size, st_mtime_ns.")
      .def("check_unchanged", &MappedFile::check_unchanged, "Refuses a file that was changed in place since.")
      .def("check_length", &MappedFile::check_length, "Refuses a file that was cut off since.");

  py::class_<DirectoryContents, std::shared_ptr<DirectoryContents>>(m, "DirectoryContents",
                                                                    "What a router or an embedder is made of.")
      .def(
          py::init(&contents_in_memory), py::arg("name"), py::arg("manifest"), py::arg("tensors"), py::arg("mapped"),
          "A router's contents in memory: the arrays are borrowed, never copied or changed. `name` stands in messages.")
      .def_property_readonly("manifest_sha256", [](const DirectoryContents& self) { return self.manifest_sha256; })
      .def_property_readonly("manifest", [](const DirectoryContents& self) { return object_of(self.manifest); })
      .def_property_readonly(
          "tensors",
          [](const DirectoryContents& self) {
            py::dict result;
            for (const auto& [name, tensor] : self.tensors) {
              const py::array view = array_over(tensor, object_behind(tensor.owner));
              result[text_of(name)] = is_aligned(tensor) ? py::object(view) : view.attr("copy")();
            }
            return result;
          },
          "Arrays over the contents of weights.safetensors, which all of them keep.")
      .def_property_readonly(
          "mapped",
          [](const DirectoryContents& self) {
            py::dict result;
            for (const auto& [name, file] : self.mapped_files) {
              py::array view =
                  array_over(self.mapped.find(name)->second, py::cast(std::const_pointer_cast<MappedFile>(file)));
              view.attr("setflags")(py::arg("write") = false);
              result[text_of(name)] = view;
            }
            return result;
          },
          "Read-only arrays over mapped files.")
      .def_property_readonly("files",
                             [](const DirectoryContents& self) {
                               py::dict result;
                               for (const auto& [name, content] : self.files) {
                                 result[text_of(name)] = object_behind(content.owner);
                               }
                               return result;
                             })
      .def_property_readonly("model_card", [](const DirectoryContents& self) { return py::bytes(self.model_card); });

  m.def(
      "parse_json", [](std::string_view document) { return object_of(parse_json(document)); }, py::arg("document"),
      "The value of a JSON document by the rules of docs/artifact-format.md; ArtifactFormatError names fault and "
      "byte.");
  m.def("read_directory", &read, py::arg("path"), py::arg("manifest_file"), py::arg("keys"),
        py::arg("digest") = py::none(),
        "Contents of a directory, checked but for the data of mapped tensors, and these too where the digest of the "
        "manifest's file is given. keys are (name, type, may be null).");
  m.def(
      "verify_directory", &verify, py::arg("path"), py::arg("manifest_file"), py::arg("keys"),
      py::arg("on_progress") = py::none(),
      "Checks the data of mapped tensors too, in bounded memory; bytes of all files with digests. on_progress gets the "
      "bytes verified and those that there are.");
  m.def(
      "check_manifest",
      [](std::string_view manifest, std::string_view directory, std::string manifest_file, const Keys& keys) {
        (void)parse_manifest(manifest, layout_of(std::move(manifest_file), keys), std::string(directory));
      },
      py::arg("manifest"), py::arg("directory"), py::arg("manifest_file"), py::arg("keys"),
      "Refuses a manifest that the directory could not be read with.");
}

}  // namespace routellm_fast
