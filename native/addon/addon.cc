#include <napi.h>

#include "addon/environment.h"
#include "addon/exports.h"

// What JavaScript loads: two interfaces, of machines and of the host.

namespace tsvmm {
namespace {

Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  Environment::attach(env);
  add_machine_functions(exports);
  add_host_functions(exports);
  add_stream_functions(exports);
  return exports;
}

NODE_API_MODULE(tsvmm, initialize)

}  // namespace
}  // namespace tsvmm
