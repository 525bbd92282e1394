#pragma once

#include "core/cancellation.h"
#include "disk/container.h"
#include "disk/qcow2/header.h"
#include "disk/qcow2/refcounts.h"

namespace tsvmm::qcow2 {

/// Makes the refcounts what the tables say, after the image has not been closed with lazy
/// refcounts. Reads each table once, at most 1 GiB of them, and needs up to 8 bytes a cluster of
/// the file that something refers to. Throws Error if the image needs more than that.
void repair_refcounts(Container& container, const Header& header, Refcounts& refcounts,
                      const Cancellation& cancellation);

}  // namespace tsvmm::qcow2
