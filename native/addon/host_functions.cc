#include <napi.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "addon/environment.h"
#include "addon/exports.h"
#include "core/host_output.h"
#include "core/thread.h"
#include "host/datagram.h"
#include "host/files.h"
#include "host/held_signals.h"
#include "host/listening_socket.h"
#include "host/network.h"
#include "host/raw_terminals.h"
#include "host/record_fifo.h"
#include "host/terminal.h"
#include "host/unix_client.h"
#include "hypervisor/kvm/kvm_device.h"

// The functions of src/boundary/host.ts (HostCalls) but those of streams. They convert and call;
// none of them decides anything.

namespace tsvmm {
namespace {

Napi::Value precreate_vm(Arguments info) {
  Environment::of(info.Env()).precreate_vm(info[0].ToBoolean());
  return info.Env().Undefined();
}

Napi::Value supported_cpuid(Arguments info) {
  return from_bytes(info.Env(), Environment::of(info.Env()).host().supported_cpuid());
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
  // Read when it is wanted, as the thread that finds it out is at work until then.
  object.DefineProperty(Napi::PropertyDescriptor::Accessor<guarded<supported_cpuid>>(
      "supportedCpuid", napi_enumerable));
  return object;
}

Napi::Value hold_signals_function(Arguments info) {
  hold_signals();
  return info.Env().Undefined();
}

Napi::Value release_signals_function(Arguments info) {
  release_signals();
  return info.Env().Undefined();
}

/// Runs no handlers, and waits for no thread: some may be stuck in the kernel.
Napi::Value exit_at_once(Arguments info) {
  ::_exit(static_cast<int>(to_uint(info[0], "code", UINT8_MAX)));
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

Napi::Value open_pty_function(Arguments info) {
  Pty pty = open_pty();
  Napi::Object object = Napi::Object::New(info.Env());
  object.Set("fd", give_fd(info.Env(), std::move(pty.master)));
  object.Set("path", pty.slave_path);
  return object;
}

Napi::Value claim_socket_function(Arguments info) {
  SocketClaim claim = claim_socket(to_string(info[0], "path"));
  Napi::Object object = Napi::Object::New(info.Env());
  object.Set("lockId", claim.lock_id);
  object.Set("name", claim.name);
  object.Set("lock", give_fd(info.Env(), std::move(claim.lock)));
  return object;
}

Napi::Value listen_unix_function(Arguments info) {
  ListeningSocket socket = listen_unix(to_string(info[0], "path"));
  Napi::Object object = Napi::Object::New(info.Env());
  object.Set("id", socket.id);
  object.Set("listener", give_fd(info.Env(), std::move(socket.listener)));
  return object;
}

Napi::Value place_socket_function(Arguments info) {
  const std::string id = place_socket(to_string(info[0], "name"), to_string(info[1], "path"));
  return Napi::String::New(info.Env(), id);
}

Napi::Value remove_listening_socket_function(Arguments info) {
  remove_listening_socket(to_string(info[0], "path"), to_string(info[1], "id"),
                          to_string(info[2], "lockId"));
  return info.Env().Undefined();
}

Napi::Value stream_pair_function(Arguments info) {
  auto [first, second] = stream_pair();
  Napi::Array ends = Napi::Array::New(info.Env(), 2);
  ends.Set(0U, give_fd(info.Env(), std::move(first)));
  ends.Set(1U, give_fd(info.Env(), std::move(second)));
  return ends;
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
  const auto use = begin_raw_use(fd_argument(info[0], "fd"));
  if (!use) return info.Env().Null();
  return Napi::Number::New(info.Env(), static_cast<double>(*use));
}

Napi::Value terminal_restore_function(Arguments info) {
  end_raw_use(to_uint(info[0], "use"));
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
  return give_fd(info.Env(), connect_unix(to_string(info[0], "path"), info[1].ToBoolean()));
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
  return give_fd(
      info.Env(),
      open_file(to_string(info[0], "path"), static_cast<int>(to_uint(info[1], "flags", INT32_MAX)),
                static_cast<unsigned>(to_uint(info[2], "mode", 07777)),
                static_cast<unsigned>(to_uint(info[3], "kinds", UINT8_MAX))));
}

Napi::Value file_answers_function(Arguments info) {
  const bool answers =
      Environment::of(info.Env()).file_probes().answers(to_string(info[0], "path"));
  return Napi::Boolean::New(info.Env(), answers);
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

Napi::Value open_record_fifo(Arguments info) {
  const Napi::Env env = info.Env();
  auto fifo = RecordFifo::duplicate_if_fifo(fd_argument(info[0], "fd"));
  if (!fifo) return env.Null();
  return Environment::of(env).record_fifos().wrap(
      env, std::make_shared<RecordFifoHandle>(*std::move(fifo)));
}

Napi::Value write_record(Arguments info) {
  const size_t taken = RecordFifos::unwrap(info[0]).fifo().write(to_bytes(info[1], "bytes"));
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
    fds.Set(i, give_fd(env, std::move(tap.queues[i])));
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

Napi::Value put_into_bridge_function(Arguments info) {
  put_into_bridge(to_string(info[0], "name"), to_string(info[1], "bridge"));
  return info.Env().Undefined();
}

}  // namespace

void add_host_functions(Napi::Object& exports) {
  add<precreate_vm>(exports, "precreateVm");
  add<host_info>(exports, "hostInfo");
  add<hold_signals_function>(exports, "holdSignals");
  add<release_signals_function>(exports, "releaseSignals");
  add<open_pty_function>(exports, "openPty");
  add<claim_socket_function>(exports, "claimSocket");
  add<listen_unix_function>(exports, "listenUnix");
  add<place_socket_function>(exports, "placeSocket");
  add<remove_listening_socket_function>(exports, "removeListeningSocket");
  add<stream_pair_function>(exports, "streamPair");
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
  add<put_into_bridge_function>(exports, "putIntoBridge");
  add<open_file_function>(exports, "openFile");
  add<file_answers_function>(exports, "fileAnswers");
  add<close_file_function>(exports, "closeFile");
  add<disown_file_function>(exports, "disownFile");
  add<read_at_function>(exports, "readAt");
  add<set_file_size_function>(exports, "setFileSize");
  add<write_now_function>(exports, "writeNow");
  add<open_record_fifo>(exports, "openRecordFifo");
  add<write_record>(exports, "writeRecord");
  add<send_datagram_function>(exports, "sendDatagram");
  add<exit_at_once>(exports, "exitAtOnce");
  add<random_bytes_function>(exports, "randomBytes");
  add<pin_thread_function>(exports, "pinThread");
}

}  // namespace tsvmm
