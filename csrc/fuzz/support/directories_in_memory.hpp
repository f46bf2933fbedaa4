#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>

namespace routellm_fast::fuzz {

/// The files of a directory, by name; whoever makes them known keeps them.
using FilesInMemory = std::map<std::string, std::string_view, std::less<>>;

/// All directories that there are, by path. A target that links directories_in_memory.cpp has these in place of those
/// on disk: its definitions of DirectoryHandle, OpenFile and MappedFile take the place of the core's, as the fake of
/// Triton takes the place of the server. Everything above them is the core as it ships.
std::map<std::string, FilesInMemory, std::less<>>& directories();

}  // namespace routellm_fast::fuzz
