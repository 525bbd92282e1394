#pragma once

#include "disk/container.h"
#include "disk/qcow2/header.h"
#include "disk/qcow2/refcounts.h"

namespace tsvmm::qcow2 {

/// Makes the refcounts what the tables say, after the image has not been closed with lazy
/// refcounts. Needs 4 bytes a cluster of the file, at most 256 MiB. Throws Error if the image needs
/// a better doctor.
void repair_refcounts(Container& container, const Header& header, Refcounts& refcounts);

}  // namespace tsvmm::qcow2
