// What AddressSanitizer does by default here. Freed memory is kept from use for a megabyte instead of 256: it stays in
// the processor's caches, and most inputs are over by then. Of an allocation its caller is remembered, not thirty of
// them.
extern "C" const char*
__asan_default_options();  // NOLINT(*-reserved-identifier,*-identifier-naming): the sanitizer's name

const char* __asan_default_options() {  // NOLINT(*-reserved-identifier,*-identifier-naming)
  return "quarantine_size_mb=1:thread_local_quarantine_size_kb=64:malloc_context_size=1";
}
