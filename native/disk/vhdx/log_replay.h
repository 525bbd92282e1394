#pragma once

#include "core/cancellation.h"
#include "disk/vhdx/format.h"
#include "disk/vhdx/header.h"

namespace tsvmm::vhdx {

/// Carries out what a log holds ([MS-VHDX] §2.3): all of it is on stable storage afterwards, and
/// the log can be forgotten. Throws Error if the log cannot be trusted, with nothing changed.
void replay_log(Container& container, const Header& header, const Cancellation& cancellation);

}  // namespace tsvmm::vhdx
