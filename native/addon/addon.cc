#include <napi.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>

#include "addon/balloon_answer.h"
#include "addon/convert.h"
#include "addon/convert_fields.h"
#include "addon/counters_answer.h"
#include "addon/environment.h"
#include "addon/exports.h"
#include "addon/machine_handle.h"
#include "addon/stream_server_handle.h"
#include "core/host_output.h"
#include "core/thread.h"
#include "host/datagram.h"
#include "host/files.h"
#include "host/listening_socket.h"
#include "host/network.h"
#include "host/terminal.h"
#include "host/unix_client.h"
#include "hypervisor/kvm/kvm_device.h"

// The functions of src/native.ts (NativeAddon), in its order. They convert and call; none of them
// decides anything.

namespace tsvmm {
namespace {

constexpr size_t kVmGenerationSize = 16;

Napi::Value expect_machine(Arguments info) {
  Environment::of(info.Env()).expect_machine();
  return info.Env().Undefined();
}

Napi::Value host_info(Arguments info) {
  const Napi::Env env = info.Env();
  const HostFacts& host = Environment::of(env).host();
  const ProcessorFacts& processor = host.processor();
  Napi::Object object = Napi::Object::New(env);
  object.Set("apiVersion", Napi::Number::New(env, KvmDevice::kApiVersion));
  object.Set("physBits", Napi::Number::New(env, processor.physical_address_bits));
  object.Set("maxVcpus", Napi::Number::New(env, host.max_vcpus()));
  object.Set("tscKhz", Napi::Number::New(env, processor.tsc_khz));
  object.Set("hardwareVirtualization",
             Napi::Boolean::New(env, processor.has_hardware_virtualization));
  return object;
}

Napi::Value supported_cpuid(Arguments info) {
  return from_bytes(info.Env(), Environment::of(info.Env()).host().supported_cpuid());
}

Napi::Value machine_create(Arguments info) {
  MachineSpec spec = to_machine_spec(info[0]);
  if (!info[1].IsFunction()) throw Napi::TypeError::New(info.Env(), "onEvent must be a function");
  auto channel = EventChannel::open(info.Env(), info[1].As<Napi::Function>());
  auto handle = std::make_shared<MachineHandle>(std::move(spec), std::move(channel));
  Environment& environment = Environment::of(info.Env());
  environment.add(handle);
  handle->start_building(environment.take_spare());
  return wrap(info.Env(), handle);
}

Napi::Value machine_boot(Arguments info) {
  BootSpec boot = to_boot_spec(info[1]);
  boot.paused = info[2].ToBoolean();
  return unwrap(info[0]).boot(info.Env(), std::move(boot));
}

Napi::Value machine_pause(Arguments info) { return unwrap(info[0]).pause(info.Env()); }
Napi::Value machine_resume(Arguments info) { return unwrap(info[0]).resume(info.Env()); }

Napi::Value machine_destroy(Arguments info) {
  const auto timeout = info[1].IsUndefined()
                           ? std::chrono::milliseconds(Machine::kTimeout)
                           : std::chrono::milliseconds(to_uint(info[1], "timeoutMs", UINT32_MAX));
  return unwrap(info[0]).destroy(info.Env(), timeout);
}

Napi::Value machine_call_off(Arguments info) {
  unwrap(info[0]).machine().cancel();
  return info.Env().Undefined();
}

/// Runs no handlers, and waits for no thread: some may be stuck in the kernel.
Napi::Value exit_at_once(Arguments info) {
  ::_exit(static_cast<int>(to_uint(info[0], "code", UINT8_MAX)));
}

Napi::Value machine_keep_alive(Arguments info) {
  unwrap(info[0]).keep_alive(info.Env(), info[1].ToBoolean());
  return info.Env().Undefined();
}

Napi::Value machine_power_button(Arguments info) {
  unwrap(info[0]).machine().press_power_button();
  return info.Env().Undefined();
}

Napi::Value machine_nmi(Arguments info) {
  unwrap(info[0]).machine().inject_nmi();
  return info.Env().Undefined();
}

Napi::Value machine_resize_disk(Arguments info) {
  return unwrap(info[0]).resize_disk(info.Env(), to_string(info[1], "id"),
                                     to_uint(info[2], "bytes"));
}

Napi::Value machine_resize_console(Arguments info) {
  const auto columns = static_cast<uint16_t>(to_uint(info[1], "columns", UINT16_MAX));
  const auto rows = static_cast<uint16_t>(to_uint(info[2], "rows", UINT16_MAX));
  unwrap(info[0]).machine().resize_console(columns, rows);
  return info.Env().Undefined();
}

Napi::Value machine_set_vm_generation(Arguments info) {
  const std::vector<uint8_t> id = to_bytes(info[1], "id");
  if (id.size() != kVmGenerationSize) wrong(info.Env(), "id", "16 bytes");
  unwrap(info[0]).machine().set_vm_generation(
      std::span<const uint8_t, kVmGenerationSize>(id.data(), kVmGenerationSize));
  return info.Env().Undefined();
}

Napi::Value random_bytes_function(Arguments info) {
  return from_bytes(info.Env(), random_bytes(to_uint(info[0], "length", kMaxRandom)));
}

Napi::Value pin_thread_function(Arguments info) {
  const auto thread = static_cast<pid_t>(to_uint(info[0], "thread", INT32_MAX));
  std::vector<int> cpus;
  for_each(info[1], "cpus", [&cpus](const Napi::Value& cpu) {
    cpus.push_back(static_cast<int>(to_uint(cpu, "cpu", INT32_MAX)));
  });
  pin_thread(thread, cpus);
  return info.Env().Undefined();
}

Napi::Value machine_resize_balloon(Arguments info) {
  unwrap(info[0]).machine().resize_balloon(to_uint(info[1], "size"));
  return info.Env().Undefined();
}

Napi::Value machine_balloon_size(Arguments info) {
  const uint64_t size = unwrap(info[0]).machine().balloon_size();
  return Napi::Number::New(info.Env(), static_cast<double>(size));
}

Napi::Value machine_counters(Arguments info) {
  const Napi::Env env = info.Env();
  Napi::Object all = Napi::Object::New(env);
  for (const auto& [id, counters] : unwrap(info[0]).machine().counters()) {
    Napi::Object device = Napi::Object::New(env);
    for (const Counter& counter : counters) {
      device.Set(counter.name, Napi::BigInt::New(env, counter.value));
    }
    all.Set(id, device);
  }
  return all;
}

Napi::Object from_statistics(Napi::Env env, const std::vector<VcpuStatistics::Value>& values) {
  Napi::Object object = Napi::Object::New(env);
  for (const auto& [name, value] : values) object.Set(name, Napi::BigInt::New(env, value));
  return object;
}

Napi::Value machine_vcpu_statistics(Arguments info) {
  const Napi::Env env = info.Env();
  Napi::Array all = Napi::Array::New(env);
  for (const VcpuStatistics& vcpu : unwrap(info[0]).machine().vcpu_statistics()) {
    Napi::Object object = Napi::Object::New(env);
    object.Set("thread", Napi::Number::New(env, vcpu.thread));
    object.Set("exits", from_statistics(env, vcpu.exits));
    object.Set("hypervisor", from_statistics(env, vcpu.hypervisor));
    all.Set(all.Length(), object);
  }
  return all;
}

Napi::Value machine_debug_port(Arguments info) {
  const PostCodeState state = unwrap(info[0]).machine().post_code();
  Napi::Object object = Napi::Object::New(info.Env());
  object.Set("lastPostCode", Napi::Number::New(info.Env(), state.last));
  object.Set("postCodes", Napi::Number::New(info.Env(), static_cast<double>(state.count)));
  return object;
}

/// Gives a descriptor to the caller.
Napi::Number release_fd(Napi::Env env, UniqueFd fd) {
  return Napi::Number::New(env, Environment::of(env).give(std::move(fd)));
}

Napi::Value open_pty_function(Arguments info) {
  Pty pty = open_pty();
  Napi::Object object = Napi::Object::New(info.Env());
  object.Set("fd", release_fd(info.Env(), std::move(pty.master)));
  object.Set("path", pty.slave_path);
  return object;
}

Napi::Value claim_socket_function(Arguments info) {
  SocketClaim claim = claim_socket(to_string(info[0], "path"));
  Napi::Object object = Napi::Object::New(info.Env());
  object.Set("lockId", claim.lock_id);
  object.Set("lock", release_fd(info.Env(), std::move(claim.lock)));
  return object;
}

Napi::Value listen_unix_function(Arguments info) {
  ListeningSocket socket = listen_unix(to_string(info[0], "path"));
  Napi::Object object = Napi::Object::New(info.Env());
  object.Set("id", socket.id);
  object.Set("listener", release_fd(info.Env(), std::move(socket.listener)));
  return object;
}

Napi::Value remove_listening_socket_function(Arguments info) {
  remove_listening_socket(to_string(info[0], "path"), to_string(info[1], "id"),
                          to_string(info[2], "lockId"));
  return info.Env().Undefined();
}

Napi::Value stream_pair_function(Arguments info) {
  auto [first, second] = stream_pair();
  Napi::Array ends = Napi::Array::New(info.Env(), 2);
  ends.Set(0U, release_fd(info.Env(), std::move(first)));
  ends.Set(1U, release_fd(info.Env(), std::move(second)));
  return ends;
}

std::shared_ptr<StreamServerHandle> open_stream_server(Napi::Env env, const Napi::Value& on_event,
                                                       std::string thread_name) {
  if (!on_event.IsFunction()) throw Napi::TypeError::New(env, "onEvent must be a function");
  auto handle =
      StreamServerHandle::open(env, on_event.As<Napi::Function>(), std::move(thread_name));
  Environment::of(env).add(handle);
  return handle;
}

Napi::Value serve_streams(Arguments info) {
  UniqueFd listener = UniqueFd::duplicate(fd_argument(info[0], "fd"));
  auto handle = open_stream_server(info.Env(), info[1], "http-server");
  try {
    handle->server().listen(std::move(listener));
  } catch (const Error&) {
    handle->close();
    throw;
  }
  return wrap(info.Env(), handle);
}

Napi::Value open_streams(Arguments info) {
  return wrap(info.Env(), open_stream_server(info.Env(), info[0], "streams"));
}

StreamServer& server_argument(Arguments info) { return unwrap_stream_server(info[0]).server(); }

Napi::Value stream_listen(Arguments info) {
  server_argument(info).listen(UniqueFd::duplicate(fd_argument(info[1], "fd")),
                               to_uint(info[2], "connections"));
  return info.Env().Undefined();
}

Napi::Value stream_adopt(Arguments info) {
  UniqueFd fd = UniqueFd::duplicate(fd_argument(info[1], "fd"));
  const auto id = server_argument(info).adopt(std::move(fd));
  return Napi::Number::New(info.Env(), static_cast<double>(id));
}

StreamServer::ConnectionId connection_argument(Arguments info) {
  return to_uint(info[1], "connection");
}

Napi::Value stream_take(Arguments info) {
  const Napi::Env env = info.Env();
  StreamServer::Received received = server_argument(info).take(connection_argument(info));
  Napi::Array descriptors = Napi::Array::New(env);
  for (UniqueFd& fd : received.segment.descriptors) {
    descriptors.Set(descriptors.Length(), release_fd(env, std::move(fd)));
  }
  Napi::Object object = Napi::Object::New(env);
  object.Set("bytes", from_bytes(env, received.segment.bytes));
  object.Set("descriptors", descriptors);
  object.Set("more", Napi::Boolean::New(env, received.more));
  object.Set("ended", Napi::Boolean::New(env, received.ended));
  object.Set("gone", Napi::Boolean::New(env, received.gone));
  return object;
}

const char* name_of(StreamServer::Written written) {
  switch (written) {
    case StreamServer::Written::kLeft:
      return "left";
    case StreamServer::Written::kWaiting:
      return "waiting";
    case StreamServer::Written::kLost:
      return "lost";
  }
  return "lost";
}

Napi::Value stream_write(Arguments info) {
  const auto written =
      server_argument(info).write(connection_argument(info), to_bytes(info[2], "bytes"));
  return Napi::String::New(info.Env(), name_of(written));
}

Napi::Value stream_rest(Arguments info) {
  return Napi::Boolean::New(info.Env(), server_argument(info).rest(connection_argument(info)));
}

Napi::Value stream_end(Arguments info) {
  server_argument(info).end(connection_argument(info));
  return info.Env().Undefined();
}

Napi::Value stream_abort(Arguments info) {
  server_argument(info).abort(connection_argument(info));
  return info.Env().Undefined();
}

Napi::Value stream_longest_idle(Arguments info) {
  const auto id = server_argument(info).longest_idle();
  return id ? Napi::Number::New(info.Env(), static_cast<double>(*id)) : info.Env().Null();
}

Napi::Value stream_remember(Arguments info) {
  server_argument(info).remember(to_bytes(info[1], "request"), to_bytes(info[2], "answer"));
  return info.Env().Undefined();
}

std::string text_field(const Napi::Object& object, const char* name) {
  return to_string(object.Get(name), name);
}

std::vector<CountersAnswer::Piece> to_pieces(const Napi::Value& value) {
  if (!value.IsArray()) throw Napi::TypeError::New(value.Env(), "pieces must be an array");
  const auto array = value.As<Napi::Array>();
  std::vector<CountersAnswer::Piece> pieces;
  pieces.reserve(array.Length());
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const Napi::Value element = array.Get(i);
    const auto piece = element.ToObject();
    pieces.push_back({.text = text_field(piece, "text"),
                      .device = text_field(piece, "device"),
                      .counter = text_field(piece, "counter")});
  }
  return pieces;
}

AnswerFrame to_frame(const Napi::Object& text) {
  return {.head = text_field(text, "head"), .after_length = text_field(text, "afterLength")};
}

Napi::Value stream_remember_balloon(Arguments info) {
  const auto text = info[3].ToObject();
  const auto answer = std::make_shared<BalloonAnswer>(
      unwrap(info[2]).shared_from_this(),
      BalloonAnswer::Text{.frame = to_frame(text),
                          .before = text_field(text, "before"),
                          .after = text_field(text, "after")},
      to_uint(text.Get("memory"), "memory"), to_uint(text.Get("balloon"), "balloon"));
  server_argument(info).remember(to_bytes(info[1], "request"),
                                 [answer](std::vector<uint8_t>& bytes) {
                                   answer->append_to(bytes);
                                   return true;
                                 });
  return info.Env().Undefined();
}

Napi::Value stream_remember_counters(Arguments info) {
  const auto text = info[3].ToObject();
  const auto answer =
      std::make_shared<CountersAnswer>(unwrap(info[2]).shared_from_this(), to_frame(text),
                                       to_pieces(text.Get("pieces")), text_field(text, "tail"));
  server_argument(info).remember(
      to_bytes(info[1], "request"),
      [answer](std::vector<uint8_t>& bytes) { return answer->append_to(bytes); });
  return info.Env().Undefined();
}

Napi::Value stream_forget(Arguments info) {
  server_argument(info).forget(to_bytes(info[1], "request"));
  return info.Env().Undefined();
}

Napi::Value stop_listening(Arguments info) {
  server_argument(info).stop_listening();
  return info.Env().Undefined();
}

Napi::Value close_streams(Arguments info) {
  unwrap_stream_server(info[0]).close();
  return info.Env().Undefined();
}

Napi::Value lock_range_function(Arguments info) {
  const bool locked = lock_range(fd_argument(info[0], "fd"), info[1].ToBoolean(),
                                 to_uint(info[2], "start"), to_uint(info[3], "length"));
  return Napi::Boolean::New(info.Env(), locked);
}

Napi::Value lock_holder_function(Arguments info) {
  const auto lock = lock_holder(fd_argument(info[0], "fd"), to_uint(info[1], "start"),
                                to_uint(info[2], "length"));
  if (!lock) return info.Env().Null();
  auto object = Napi::Object::New(info.Env());
  object.Set("start", static_cast<double>(lock->start));
  object.Set("exclusive", lock->exclusive);
  return object;
}

Napi::Value unlock_range_function(Arguments info) {
  unlock_range(fd_argument(info[0], "fd"), to_uint(info[1], "start"), to_uint(info[2], "length"));
  return info.Env().Undefined();
}

Napi::Value terminal_raw_function(Arguments info) {
  const auto saved = terminal_raw(fd_argument(info[0], "fd"));
  return saved ? from_bytes(info.Env(), *saved) : info.Env().Null();
}

Napi::Value terminal_restore_function(Arguments info) {
  terminal_restore(fd_argument(info[0], "fd"), to_bytes(info[1], "saved"));
  return info.Env().Undefined();
}

Napi::Value terminal_size_function(Arguments info) {
  const auto size = terminal_size(fd_argument(info[0], "fd"));
  if (!size) return info.Env().Null();
  Napi::Object object = Napi::Object::New(info.Env());
  object.Set("columns", Napi::Number::New(info.Env(), size->columns));
  object.Set("rows", Napi::Number::New(info.Env(), size->rows));
  return object;
}

Napi::Value set_terminal_size_function(Arguments info) {
  const auto columns = static_cast<uint16_t>(to_uint(info[1], "columns", UINT16_MAX));
  const auto rows = static_cast<uint16_t>(to_uint(info[2], "rows", UINT16_MAX));
  set_terminal_size(fd_argument(info[0], "fd"), {.columns = columns, .rows = rows});
  return info.Env().Undefined();
}

Napi::Value connect_unix_function(Arguments info) {
  if (!info[1].IsBoolean()) wrong(info.Env(), "reader", "a boolean");
  return release_fd(info.Env(), connect_unix(to_string(info[0], "path"), info[1].ToBoolean()));
}

Napi::Value send_descriptors_function(Arguments info) {
  const std::vector<uint8_t> bytes = to_bytes(info[1], "bytes");
  std::vector<int> descriptors;
  for_each(info[2], "descriptors", [&](const Napi::Value& value) {
    descriptors.push_back(fd_argument(value, "descriptors"));
  });
  const size_t sent = send_descriptors(fd_argument(info[0], "socket"), bytes, descriptors);
  return Napi::Number::New(info.Env(), static_cast<double>(sent));
}

Napi::Value file_id_function(Arguments info) {
  return Napi::String::New(info.Env(), file_id(fd_argument(info[0], "fd")));
}

Napi::Value file_id_at_function(Arguments info) {
  const auto id = file_id_at(to_string(info[0], "path"));
  if (!id) return info.Env().Null();
  return Napi::String::New(info.Env(), *id);
}

Napi::Value image_size_function(Arguments info) {
  const uint64_t size = image_size(fd_argument(info[0], "fd"));
  return Napi::Number::New(info.Env(), static_cast<double>(size));
}

Napi::Value open_file_function(Arguments info) {
  return release_fd(
      info.Env(),
      open_file(to_string(info[0], "path"), static_cast<int>(to_uint(info[1], "flags", INT32_MAX)),
                static_cast<unsigned>(to_uint(info[2], "mode", 07777)),
                static_cast<unsigned>(to_uint(info[3], "kinds", UINT8_MAX))));
}

Napi::Value close_file_function(Arguments info) {
  const UniqueFd closing = Environment::of(info.Env()).take_back(fd_argument(info[0], "fd"));
  return info.Env().Undefined();
}

Napi::Value disown_file_function(Arguments info) {
  Environment::of(info.Env()).lend(fd_argument(info[0], "fd"));
  return info.Env().Undefined();
}

Napi::Value read_at_function(Arguments info) {
  return from_bytes(info.Env(), read_at(fd_argument(info[0], "fd"), to_uint(info[1], "offset"),
                                        to_uint(info[2], "length", kMaxRead)));
}

Napi::Value set_file_size_function(Arguments info) {
  set_file_size(fd_argument(info[0], "fd"), to_uint(info[1], "size"));
  return info.Env().Undefined();
}

Napi::Value write_now_function(Arguments info) {
  int error = 0;
  HostOutput output(fd_argument(info[0], "fd"), [&error](int errno_value) { error = errno_value; });
  const size_t taken = output.write(to_bytes(info[1], "bytes"));
  if (error != 0) throw Error::from_errno("writing", error);
  return Napi::Number::New(info.Env(), static_cast<double>(taken));
}

Napi::Value send_datagram_function(Arguments info) {
  send_datagram(to_string(info[0], "address"), to_bytes(info[1], "bytes"));
  return info.Env().Undefined();
}

Napi::Value open_tap_function(Arguments info) {
  const Napi::Env env = info.Env();
  const auto queues = static_cast<unsigned>(to_uint(info[1], "queues", UINT16_MAX));
  OpenTap tap = open_tap(to_string(info[0], "name"), queues);
  Napi::Array fds = Napi::Array::New(env, tap.queues.size());
  for (uint32_t i = 0; i < tap.queues.size(); ++i) {
    fds.Set(i, release_fd(env, std::move(tap.queues[i])));
  }
  Napi::Object object = Napi::Object::New(env);
  object.Set("fds", fds);
  object.Set("name", tap.name);
  object.Set("created", tap.created);
  return object;
}

Napi::Value tap_queue_info_function(Arguments info) {
  const TapQueueInfo queue = tap_queue_info(fd_argument(info[0], "fd"));
  Napi::Object object = Napi::Object::New(info.Env());
  object.Set("name", queue.name);
  object.Set("tap", queue.tap);
  object.Set("vnetHeader", queue.vnet_header);
  object.Set("multiQueue", queue.multi_queue);
  return object;
}

Napi::Value interface_info_function(Arguments info) {
  const auto interface = interface_info(to_string(info[0], "name"));
  if (!interface) return info.Env().Null();
  Napi::Object object = Napi::Object::New(info.Env());
  object.Set("up", interface->up);
  object.Set("mtu", interface->mtu);
  object.Set("mac", from_bytes(info.Env(), {interface->mac.begin(), interface->mac.end()}));
  return object;
}

Napi::Value bring_interface_up_function(Arguments info) {
  bring_interface_up(to_string(info[0], "name"));
  return info.Env().Undefined();
}

Napi::Value set_interface_mtu_function(Arguments info) {
  set_interface_mtu(to_string(info[0], "name"),
                    static_cast<uint32_t>(to_uint(info[1], "mtu", UINT16_MAX)));
  return info.Env().Undefined();
}

Napi::Value set_interface_mac_function(Arguments info) {
  const std::vector<uint8_t> bytes = to_bytes(info[1], "mac");
  std::array<uint8_t, 6> mac{};
  if (bytes.size() != mac.size()) wrong(info.Env(), "mac", "six bytes");
  std::ranges::copy(bytes, mac.begin());
  set_interface_mac(to_string(info[0], "name"), mac);
  return info.Env().Undefined();
}

Napi::Value set_interface_address_function(Arguments info) {
  set_interface_address(to_string(info[0], "name"), to_string(info[1], "address"),
                        to_string(info[2], "mask"));
  return info.Env().Undefined();
}

Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  Environment::attach(env);
  add<expect_machine>(exports, "expectMachine");
  add<host_info>(exports, "hostInfo");
  add<supported_cpuid>(exports, "supportedCpuid");
  add<machine_create>(exports, "machineCreate");
  add<machine_boot>(exports, "machineBoot");
  add<machine_pause>(exports, "machinePause");
  add<machine_resume>(exports, "machineResume");
  add<machine_destroy>(exports, "machineDestroy");
  add<machine_keep_alive>(exports, "machineKeepAlive");
  add<machine_call_off>(exports, "machineCallOff");
  add<machine_power_button>(exports, "machinePowerButton");
  add<machine_nmi>(exports, "machineNmi");
  add<machine_resize_disk>(exports, "machineResizeDisk");
  add<machine_resize_console>(exports, "machineResizeConsole");
  add<machine_set_vm_generation>(exports, "machineSetVmGeneration");
  add<machine_resize_balloon>(exports, "machineResizeBalloon");
  add<machine_balloon_size>(exports, "machineBalloonSize");
  add<machine_counters>(exports, "machineCounters");
  add<machine_vcpu_statistics>(exports, "machineVcpuStatistics");
  add<machine_debug_port>(exports, "machineDebugPort");
  add<open_pty_function>(exports, "openPty");
  add<claim_socket_function>(exports, "claimSocket");
  add<listen_unix_function>(exports, "listenUnix");
  add<remove_listening_socket_function>(exports, "removeListeningSocket");
  add<stream_pair_function>(exports, "streamPair");
  add<serve_streams>(exports, "serveStreams");
  add<open_streams>(exports, "openStreams");
  add<stream_listen>(exports, "streamListen");
  add<stream_adopt>(exports, "streamAdopt");
  add<stream_take>(exports, "streamTake");
  add<stream_write>(exports, "streamWrite");
  add<stream_rest>(exports, "streamRest");
  add<stream_end>(exports, "streamEnd");
  add<stream_abort>(exports, "streamAbort");
  add<stream_longest_idle>(exports, "streamLongestIdle");
  add<stream_remember>(exports, "streamRemember");
  add<stream_remember_balloon>(exports, "streamRememberBalloon");
  add<stream_remember_counters>(exports, "streamRememberCounters");
  add<stream_forget>(exports, "streamForget");
  add<stop_listening>(exports, "stopListening");
  add<close_streams>(exports, "closeStreams");
  add<lock_range_function>(exports, "lockRange");
  add<lock_holder_function>(exports, "lockHolder");
  add<unlock_range_function>(exports, "unlockRange");
  add<terminal_raw_function>(exports, "terminalRaw");
  add<terminal_restore_function>(exports, "terminalRestore");
  add<terminal_size_function>(exports, "terminalSize");
  add<set_terminal_size_function>(exports, "setTerminalSize");
  add<connect_unix_function>(exports, "connectUnix");
  add<send_descriptors_function>(exports, "sendDescriptors");
  add<file_id_function>(exports, "fileId");
  add<file_id_at_function>(exports, "fileIdAt");
  add<image_size_function>(exports, "imageSize");
  add<open_tap_function>(exports, "openTap");
  add<tap_queue_info_function>(exports, "tapQueueInfo");
  add<interface_info_function>(exports, "interfaceInfo");
  add<bring_interface_up_function>(exports, "bringInterfaceUp");
  add<set_interface_mtu_function>(exports, "setInterfaceMtu");
  add<set_interface_mac_function>(exports, "setInterfaceMac");
  add<set_interface_address_function>(exports, "setInterfaceAddress");
  add<open_file_function>(exports, "openFile");
  add<close_file_function>(exports, "closeFile");
  add<disown_file_function>(exports, "disownFile");
  add<read_at_function>(exports, "readAt");
  add<set_file_size_function>(exports, "setFileSize");
  add<write_now_function>(exports, "writeNow");
  add<send_datagram_function>(exports, "sendDatagram");
  add<exit_at_once>(exports, "exitAtOnce");
  add<random_bytes_function>(exports, "randomBytes");
  add<pin_thread_function>(exports, "pinThread");
  add_debug_functions(exports);
  return exports;
}

NODE_API_MODULE(tsvmm, initialize)

}  // namespace
}  // namespace tsvmm
