#include "addon/convert_devices.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "addon/convert_fields.h"

namespace tsvmm {
namespace {

/// How each kind of host end is called, and which of its fields is the descriptor that output goes
/// to.
struct BackendKind {
  std::string_view name;
  CharBackendSpec::Kind kind;
  const char* output;
};
constexpr std::array<BackendKind, 5> kBackendKinds{{
    {"null", CharBackendSpec::Kind::kNull, nullptr},
    {"tty", CharBackendSpec::Kind::kTty, "output"},
    {"file", CharBackendSpec::Kind::kFile, "fd"},
    {"pty", CharBackendSpec::Kind::kPty, "fd"},
    {"socket", CharBackendSpec::Kind::kSocket, "listener"},
}};

using DeviceSpec = decltype(PciFunctionSpec::device);

struct FormatName {
  std::string_view name;
  ImageFormat format;
};
constexpr std::array kFormats{
    FormatName{"raw", ImageFormat::kRaw},
    FormatName{"qcow2", ImageFormat::kQcow2},
    FormatName{"vhd", ImageFormat::kFixedVhd},
    FormatName{"vhdx", ImageFormat::kVhdx},
};

ImageLayer to_layer(const Napi::Object& object) {
  const std::string name = string_field(object, "format");
  const auto* found = std::ranges::find(kFormats, name, &FormatName::name);
  if (found == kFormats.end()) wrong(object.Env(), "format", "an image format");
  return {fd_field(object, "fd"), found->format};
}

/// The host CPUs of each queue.
std::vector<std::vector<int>> to_queue_cpus(const Napi::Value& value) {
  std::vector<std::vector<int>> queues;
  for_each(value, "queueCpus", [&](const Napi::Value& cpus) {
    std::vector<int>& queue = queues.emplace_back();
    for_each(cpus, "queueCpus", [&](const Napi::Value& cpu) {
      queue.push_back(static_cast<int>(to_uint(cpu, "queueCpus", INT32_MAX)));
    });
  });
  return queues;
}

DeviceSpec to_block(const Napi::Object& object) {
  BlockSpec spec{.layers = {},
                 .image = {.read_only = bool_field(object, "readonly"),
                           .direct = bool_field(object, "direct"),
                           .sparse = bool_field(object, "sparse"),
                           .engines = {.io_uring = !bool_field(object, "disableIoUring"),
                                       .linux_aio = !bool_field(object, "disableAio")}},
                 .num_queues = narrow_field<uint16_t>(object, "numQueues"),
                 .queue_size = narrow_field<uint16_t>(object, "queueSize"),
                 .serial = string_field(object, "serial"),
                 .protect_sector0 = bool_field(object, "protectSector0"),
                 .queue_cpus = to_queue_cpus(object.Get("queueCpus")),
                 .rate_limiter = to_rate_limiter(object, "rateLimiter")};
  for_each(object.Get("layers"), "layers", [&](const Napi::Value& layer) {
    spec.layers.push_back(to_layer(to_object(layer, "layers")));
  });
  return spec;
}

/// Duplicates of a list of descriptors.
std::vector<UniqueFd> to_descriptors(const Napi::Object& object, const char* name) {
  std::vector<UniqueFd> descriptors;
  for_each(object.Get(name), name, [&](const Napi::Value& fd) {
    descriptors.push_back(UniqueFd::duplicate(fd_argument(fd, name)));
  });
  return descriptors;
}

decltype(NetSpec::network) to_network(const Napi::Object& object) {
  const std::string kind = string_field(object, "kind");
  if (kind == "stream") return StreamSpec{fd_field(object, "fd")};
  if (kind != "tap") wrong(object.Env(), "kind", "tap or stream");
  return TapSpec{to_descriptors(object, "fds"), to_descriptors(object, "vhost")};
}

DeviceSpec to_net(const Napi::Object& object) {
  NetSpec spec;
  spec.network = to_network(object_field(object, "network"));
  spec.queue_size = narrow_field<uint16_t>(object, "queueSize");
  spec.checksum = bool_field(object, "checksum");
  spec.tso = bool_field(object, "tso");
  spec.ufo = bool_field(object, "ufo");
  spec.rate_limiter = to_rate_limiter(object, "rateLimiter");
  const std::vector<uint8_t> mac = to_bytes(object.Get("mac"), "mac");
  if (mac.size() != spec.mac.size()) wrong(object.Env(), "mac", "six bytes");
  std::ranges::copy(mac, spec.mac.begin());
  if (object.Has("mtu")) spec.mtu = narrow_field<uint16_t>(object, "mtu");
  return spec;
}

DeviceSpec to_rng(const Napi::Object& object) { return RngSpec{fd_field(object, "fd")}; }

DeviceSpec to_console(const Napi::Object& object) {
  return ConsoleSpec{to_backend(object_field(object, "backend")),
                     narrow_field<uint16_t>(object, "columns"),
                     narrow_field<uint16_t>(object, "rows")};
}

DeviceSpec to_watchdog(const Napi::Object& /*object*/) { return WatchdogSpec{}; }

DeviceSpec to_balloon(const Napi::Object& object) {
  return BalloonSpec{.size = uint_field(object, "size"),
                     .deflate_on_oom = bool_field(object, "deflateOnOom"),
                     .free_page_reporting = bool_field(object, "freePageReporting")};
}

DeviceSpec to_vsock(const Napi::Object& object) {
  return VsockSpec{.listener = fd_field(object, "listener"),
                   .cid = narrow_field<uint32_t>(object, "cid"),
                   .path = string_field(object, "path"),
                   .any_owner = bool_field(object, "anyOwner")};
}

DeviceSpec to_pmem(const Napi::Object& object) {
  return PmemSpec{.fd = fd_field(object, "fd"),
                  .size = uint_field(object, "size"),
                  .discard_writes = bool_field(object, "discardWrites")};
}

DeviceSpec to_clock(const Napi::Object& /*object*/) { return ClockSpec{}; }

struct DeviceKind {
  std::string_view name;
  DeviceSpec (*convert)(const Napi::Object& object);
};
constexpr std::array kDeviceKinds{
    DeviceKind{"block", to_block},       DeviceKind{"net", to_net},
    DeviceKind{"rng", to_rng},           DeviceKind{"console", to_console},
    DeviceKind{"watchdog", to_watchdog}, DeviceKind{"balloon", to_balloon},
    DeviceKind{"vsock", to_vsock},       DeviceKind{"pmem", to_pmem},
    DeviceKind{"rtc", to_clock},
};

TokenBucketConfig to_bucket(const Napi::Object& object) {
  return {.size = u64_field(object, "size"),
          .one_time_burst = u64_field(object, "oneTimeBurst"),
          .refill_time_ms = u64_field(object, "refillTimeMs")};
}

}  // namespace

RateLimiterSpec to_rate_limiter(const Napi::Object& object, const char* name) {
  if (!object.Get(name).IsObject()) return {};
  const Napi::Object limiter = object_field(object, name);
  return {.group = string_field(limiter, "group"),
          .config = {.bandwidth = to_bucket(object_field(limiter, "bandwidth")),
                     .operations = to_bucket(object_field(limiter, "operations"))}};
}

CharBackendSource to_backend(const Napi::Object& object) {
  const std::string name = string_field(object, "kind");
  const auto* found = std::ranges::find(kBackendKinds, name, &BackendKind::name);
  if (found == kBackendKinds.end()) wrong(object.Env(), "kind", "null, tty, file, pty or socket");
  CharBackendSource source;
  source.spec.kind = found->kind;
  const auto take = [&](const char* field) {
    source.descriptors.push_back(fd_field(object, field));
    return source.descriptors.back().get();
  };
  if (found->output != nullptr) source.spec.output = take(found->output);
  // -1 means that there is nothing to read from.
  const bool has_input =
      object.Get("input").IsNumber() && object.Get("input").As<Napi::Number>().Int32Value() >= 0;
  if (found->kind == CharBackendSpec::Kind::kTty && has_input) source.spec.input = take("input");
  if (object.Get("log").IsNumber()) source.spec.log = take("log");
  return source;
}

PciFunctionSpec to_pci_function(const Napi::Object& object) {
  PciFunctionSpec spec;
  spec.id = string_field(object, "id");
  spec.slot = narrow_field<unsigned>(object, "slot");
  spec.bar0 = uint_field(object, "bar0");
  spec.bar0_is_64bit = bool_field(object, "bar0Is64Bit");
  if (object.Has("bar2")) spec.bar2 = uint_field(object, "bar2");
  const std::string kind = string_field(object, "kind");
  const auto* found = std::ranges::find(kDeviceKinds, kind, &DeviceKind::name);
  if (found == kDeviceKinds.end()) wrong(object.Env(), "kind", "a kind of device");
  spec.device = found->convert(object);
  return spec;
}

}  // namespace tsvmm
