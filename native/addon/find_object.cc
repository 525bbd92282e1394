/*
 * A stand-in for _dl_find_object(), which the unwinder that is linked statically asks which of the
 * loaded files an instruction belongs to. The C library has it since 2.35, and the addon would need
 * that version for it alone.
 */
#include <dlfcn.h>
#include <link.h>

#include <cstdint>

#if defined(__GLIBC__) && defined(DLFO_STRUCT_HAS_EH_DBASE)

namespace {

struct Search {
  uintptr_t address;
  dl_find_object* found;
};

/* For each loaded file; returns 1, which ends the search, if the address is in one of its segments.
 */
int look_at(dl_phdr_info* file, size_t /*size*/, void* data) {
  const auto* search = static_cast<Search*>(data);
  const ElfW(Phdr)* segment = nullptr;
  const ElfW(Phdr)* frame_header = nullptr;
  for (size_t i = 0; i < file->dlpi_phnum; ++i) {
    const ElfW(Phdr)& header = file->dlpi_phdr[i];
    if (header.p_type == PT_GNU_EH_FRAME) frame_header = &header;
    const bool inside = search->address - (file->dlpi_addr + header.p_vaddr) < header.p_memsz;
    if (header.p_type == PT_LOAD && inside) segment = &header;
  }
  if (segment == nullptr || frame_header == nullptr) return 0;
  const auto pointer = [file](uint64_t address) {
    return reinterpret_cast<void*>(file->dlpi_addr + address);
  };
  *search->found = {};
  search->found->dlfo_map_start = pointer(segment->p_vaddr);
  search->found->dlfo_map_end = pointer(segment->p_vaddr + segment->p_memsz);
  search->found->dlfo_eh_frame = pointer(frame_header->p_vaddr);
  return 1;
}

}  // namespace

extern "C" {

/* Has the C library's name for the linker alone; returns 0 if the file was found, else -1. */
__attribute__((visibility("hidden"), used)) int tsvmm_find_object(void* address,
                                                                  dl_find_object* found) noexcept
    __asm__("_dl_find_object");

int tsvmm_find_object(void* address, dl_find_object* found) noexcept {
  Search search{reinterpret_cast<uintptr_t>(address), found};
  return dl_iterate_phdr(look_at, &search) == 1 ? 0 : -1;
}
}

#endif
