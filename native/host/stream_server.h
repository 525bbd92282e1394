#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/event_loop.h"
#include "core/unique_fd.h"

namespace tsvmm {

/// Accepts connections on a UNIX stream socket, takes over others, and moves bytes, and the
/// descriptors that come with them (SCM_RIGHTS, unix(7)), which the runtimes' own sockets cannot
/// receive, between them and its owner. It does not depend on the protocol.
///
/// What a peer can make the process keep is bounded: kMaxUntaken bytes and kMaxDescriptors
/// descriptors that were not taken yet. The owner checks the result of write() before it writes
/// more.
///
/// A request that comes over and over again, byte for byte, is answered on the server's own thread
/// as long as its answer, or the way to make it, is remembered.
///
/// All functions may be called from any thread, with numbers of connections that are gone as well.
class StreamServer {
 public:
  /// No number is ever used again.
  using ConnectionId = uint64_t;

  /// Bytes of one connection that wait for take(); reading stops there.
  static constexpr size_t kMaxUntaken = size_t{64} << 10;
  /// Descriptors of one connection that wait for take(). A connection that sends more is closed.
  static constexpr size_t kMaxDescriptors = 512;
  /// Requests that are remembered; one more makes the first be forgotten.
  static constexpr size_t kMaxRemembered = 32;
  /// Connections at once, unless listen() is told otherwise. More wait in the listener's queue
  /// until one is closed. An owner that answers excess connections with an error has a lower limit;
  /// connections whose peer has left count until the owner has handled that.
  static constexpr size_t kMaxConnections = 1024;

  /// Receives events of connections, on the server's thread. Must not call the server.
  class Sink {
   public:
    virtual void opened(ConnectionId id) noexcept = 0;
    /// take() has something, or the peer does not read a remembered answer. Not told again until
    /// everything was taken.
    virtual void received(ConnectionId id) noexcept = 0;
    /// Everything written has left, or is lost, after some of it had to wait.
    virtual void drained(ConnectionId id) noexcept = 0;
    /// The peer has gone while what it sent is being answered, or told of by received(): there may
    /// be more of that to take.
    virtual void gone(ConnectionId id) noexcept = 0;
    /// Nothing more comes of it.
    virtual void closed(ConnectionId id) noexcept = 0;

   protected:
    ~Sink() = default;
  };

  /// What came with one or more messages: descriptors came with the last of these bytes.
  struct Segment {
    std::vector<uint8_t> bytes;
    std::vector<UniqueFd> descriptors;
  };
  struct Received {
    Segment segment;
    /// There is another segment.
    bool more = false;
    /// The peer will send no more; it may still read.
    bool ended = false;
    /// The peer is gone, or broke the rules: nothing that is written reaches it.
    bool gone = false;
  };

  explicit StreamServer(Sink& sink, std::string thread_name = "http-server");
  ~StreamServer();
  StreamServer(const StreamServer&) = delete;
  StreamServer& operator=(const StreamServer&) = delete;

  /// Accepts connections from now on, on a stream socket that listens. Throws Error for any other
  /// descriptor, and where there is one already.
  void listen(UniqueFd listener, size_t max_connections = kMaxConnections);
  /// Serves a connected stream socket, which opened() does not tell of. Throws Error if it cannot
  /// be waited for.
  ConnectionId adopt(UniqueFd fd);
  /// The first of what was received and not taken. With the last of it, reading goes on, and
  /// received() tells of what comes then.
  Received take(ConnectionId id);
  enum class Written : uint8_t {
    kLeft,     ///< all of them
    kWaiting,  ///< for the peer to make room
    kLost,     ///< there is no peer any more
  };
  /// Sends bytes, or keeps those that the peer has no room for.
  Written write(ConnectionId id, std::span<const uint8_t> bytes);
  /// Says that all that was taken is answered: the next request may be one that is remembered.
  /// False, and it may not, while bytes wait for the peer, be it of a remembered answer.
  bool rest(ConnectionId id);
  /// Takes nothing any more, and closes when everything written has left.
  void end(ConnectionId id);
  /// Closes at once.
  void abort(ConnectionId id);
  /// The connection of which nothing is to be answered, nor on its way, for the longest time.
  std::optional<ConnectionId> longest_idle();

  /// Appends an answer. False, and nothing is appended, if there is none at the moment. Called on
  /// the server's thread, with its lock held: must not call the server.
  using MakeAnswer = std::function<bool(std::vector<uint8_t>& answer)>;

  /// Answers such bytes with `answer`, wherever they begin a request, until they are forgotten.
  void remember(std::span<const uint8_t> request, std::span<const uint8_t> answer);
  /// Answers them with what `make` makes. It is destroyed by the call that forgets it, or calls
  /// stop().
  void remember(std::span<const uint8_t> request, MakeAnswer make);
  void forget(std::span<const uint8_t> request);

  /// Accepts no more; connections live on.
  void stop_listening();
  /// Closes everything; the sink is not called after it. Idempotent.
  void stop();

 private:
  struct Connection {
    UniqueFd fd;
    std::deque<Segment> input;
    size_t input_size = 0;         ///< bytes in it
    size_t input_descriptors = 0;  ///< descriptors in it
    std::deque<std::vector<uint8_t>> output;
    size_t output_done = 0;    ///< bytes of output's first that have left
    uint64_t last_active = 0;  ///< when something was received last
    uint32_t events = 0;       ///< what is waited for
    bool told = false;         ///< received() was called, take() was not yet
    bool resting = true;       ///< everything received is answered
    bool ended = false;        ///< the peer sends no more
    bool gone = false;         ///< the peer reads no more either, or broke the rules
    bool ending = false;       ///< end() was called
    bool watched = true;
  };
  struct Remembered {
    std::vector<uint8_t> request;
    std::vector<uint8_t> answer;
    MakeAnswer make;  ///< instead of `answer`, if not empty
  };

  void accept_some();
  void accept_and_refuse();
  void watch_listener_locked();
  std::optional<ConnectionId> add_locked(UniqueFd fd);
  void serve(ConnectionId id, IoEvents events);
  void receive_locked(ConnectionId id, Connection& connection);
  bool receive_once_locked(Connection& connection);
  void answer_remembered_locked(Connection& connection);
  bool send_remembered_locked(Connection& connection, const Remembered& known);
  void remember(Remembered one);
  void tell_locked(ConnectionId id, Connection& connection);
  void send_locked(Connection& connection, std::span<const uint8_t> bytes);
  void flush_locked(Connection& connection);
  void watch_locked(ConnectionId id, Connection& connection);
  void close_later_locked(ConnectionId id);
  void close(ConnectionId id);

  Sink& sink_;
  std::mutex mutex_;
  UniqueFd listener_;
  size_t max_connections_ = kMaxConnections;
  bool full_ = false;  ///< the listener is not waited for
  /// Let go to accept, and refuse, a connection for which no other descriptor is left.
  UniqueFd spare_;
  std::unordered_map<ConnectionId, std::unique_ptr<Connection>> connections_;
  std::deque<Remembered> remembered_;
  ConnectionId next_id_ = 1;
  EventLoop loop_;  ///< last, so that it ends first
};

}  // namespace tsvmm
