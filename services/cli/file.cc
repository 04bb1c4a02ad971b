#include "services/cli/file.h"

#include <fmt/format.h>
#include <openssl/evp.h>
#include <openssl/sha.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>

#include "engine/error/status_macros.h"
#include "services/rpc/names.h"

namespace lectern::services {
namespace {

namespace fs = std::filesystem;

constexpr size_t kReadBytes = 1 << 20;
constexpr size_t kSuffixBytes = 4;

absl::Status CannotRead(const std::string& path, std::string_view why) {
  return absl::NotFoundError(fmt::format("{}: {}", path, why));
}

LocalFile MakeFile(const fs::path& path, const std::string& display_name) {
  return {path.string(), display_name, DocumentId(display_name)};
}

absl::Status AddFolder(const fs::path& folder, std::vector<LocalFile>& files) {
  std::error_code error;
  fs::recursive_directory_iterator entry(folder, error);
  if (error) return CannotRead(folder.string(), error.message());
  const size_t first = files.size();
  for (; entry != fs::recursive_directory_iterator(); entry.increment(error)) {
    if (error) return CannotRead(folder.string(), error.message());
    const fs::path& path = entry->path();
    if (path.filename().string().starts_with('.')) {
      if (entry->is_directory(error)) entry.disable_recursion_pending();
      continue;
    }
    if (entry->is_regular_file(error)) {
      files.push_back(MakeFile(path, path.lexically_relative(folder).generic_string()));
    }
  }
  std::sort(files.begin() + static_cast<ptrdiff_t>(first), files.end(),
            [](const LocalFile& a, const LocalFile& b) { return a.display_name < b.display_name; });
  return absl::OkStatus();
}

std::string Sha256(std::string_view bytes) {
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest;
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), digest.data());
  return {digest.begin(), digest.end()};
}

}  // namespace

absl::StatusOr<std::vector<LocalFile>> FindFiles(const std::vector<std::string>& paths) {
  std::vector<LocalFile> files;
  for (const std::string& name : paths) {
    const fs::path path(name);
    std::error_code error;
    const fs::file_status status = fs::status(path, error);
    if (!fs::exists(status)) return CannotRead(name, "there is no such file or folder");
    if (fs::is_directory(status)) {
      LECTERN_RETURN_IF_ERROR(AddFolder(path, files));
    } else if (fs::is_regular_file(status)) {
      files.push_back(MakeFile(path, path.filename().string()));
    } else {
      return CannotRead(name, "is neither a file nor a folder");
    }
  }
  if (files.empty()) return absl::NotFoundError("there are no files in what was named");
  return files;
}

std::string DocumentId(const std::string& display_name) {
  std::string id;
  for (const char c : display_name) {
    const bool kept =
        (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
    id += kept ? c : (c >= 'A' && c <= 'Z') ? static_cast<char>(c - 'A' + 'a') : '-';
  }
  if (IsId(id) && id == display_name) return id;
  id.erase(0, id.find_first_not_of("._-"));
  std::string suffix;
  for (const unsigned char byte : Sha256(display_name).substr(0, kSuffixBytes)) {
    suffix += fmt::format("{:02x}", byte);
  }
  if (id.empty()) return suffix;
  return fmt::format("{}-{}", id.substr(0, kMaxIdLength - suffix.size() - 1), suffix);
}

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return CannotRead(path, std::strerror(errno));
  std::ostringstream text;
  text << file.rdbuf();
  if (file.bad()) return CannotRead(path, std::strerror(errno));
  return std::move(text).str();
}

absl::StatusOr<std::string> HashFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return CannotRead(path, std::strerror(errno));
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(),
                                                                        EVP_MD_CTX_free);
  EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr);
  std::string buffer(kReadBytes, '\0');
  while (file) {
    file.read(buffer.data(), static_cast<std::streamsize>(buffer.size()));
    EVP_DigestUpdate(context.get(), buffer.data(), static_cast<size_t>(file.gcount()));
  }
  if (file.bad()) return CannotRead(path, std::strerror(errno));
  std::string digest(SHA256_DIGEST_LENGTH, '\0');
  EVP_DigestFinal_ex(context.get(), reinterpret_cast<unsigned char*>(digest.data()), nullptr);
  return digest;
}

}  // namespace lectern::services
