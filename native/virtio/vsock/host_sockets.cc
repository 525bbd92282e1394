#include "virtio/vsock/host_sockets.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace tsvmm::vsock {
namespace {

/// What the kernel may hold for a host program that is busy: enough that program and device do not
/// have to take turns at every few packets.
constexpr int kSendBuffer = 512 * 1024;

void prepare(int socket) {
  // The kernel takes less if the host's limit is lower; either works.
  (void)::setsockopt(socket, SOL_SOCKET, SO_SNDBUF, &kSendBuffer, sizeof kSendBuffer);
}

/// Of a link the link's own owner counts: who makes one chooses where it leads.
bool is_our_name(const char* path) noexcept {
  struct stat status {};
  return ::lstat(path, &status) == 0 && status.st_uid == ::geteuid();
}

/// After is_our_name(), because what had the name then may have been replaced since.
bool is_trusted(int socket) noexcept {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return false;
  return peer.uid == ::geteuid() || peer.uid == 0;
}

}  // namespace

UniqueFd accept_client(int listener) noexcept {
  UniqueFd client;
  do {
    client.reset(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  } while (!client.valid() && (errno == EINTR || errno == ECONNABORTED));
  if (client.valid()) prepare(client.get());
  return client;
}

Connect connect_to(const std::string& path, bool any_owner, UniqueFd& socket) noexcept {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path || path.find('\0') != std::string::npos) {
    return Connect::kFailed;
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  if (!any_owner && !is_our_name(address.sun_path)) return Connect::kFailed;
  socket.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.valid()) return Connect::kFailed;
  int result;
  do {
    result = ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  } while (result != 0 && errno == EINTR);
  if (result == 0 && !any_owner && !is_trusted(socket.get())) {
    socket.reset();
    return Connect::kFailed;
  }
  if (result == 0) {
    prepare(socket.get());
    return Connect::kDone;
  }
  const bool busy = errno == EAGAIN;
  socket.reset();
  return busy ? Connect::kBusy : Connect::kFailed;
}

}  // namespace tsvmm::vsock
