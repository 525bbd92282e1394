#pragma once

#include <functional>
#include <mutex>

#include "machine/machine_event.h"

namespace tsvmm {

/// The way of events from a machine's threads to its owner, which may go before those threads do.
class EventGate {
 public:
  /// `sink` lives until close().
  explicit EventGate(MachineEventSink& sink) : sink_(&sink) {}

  /// What an event that ends the run does before it is passed on. Before any thread runs.
  void on_end_of_run(std::function<void()> stop) { stop_ = std::move(stop); }

  /// Any thread. Of events that end the run only the first is passed on.
  void report(MachineEvent event) noexcept;
  /// The run ends, or is over, without an event.
  void end_run() noexcept;
  /// After the return nothing is passed on any more.
  void close() noexcept;

 private:
  std::function<void()> stop_;
  std::mutex mutex_;
  MachineEventSink* sink_;
  bool run_ended_ = false;
};

}  // namespace tsvmm
