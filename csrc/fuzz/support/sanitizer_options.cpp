// What AddressSanitizer does by default here. Freed memory is kept from use for 8 MB instead of 256: it stays in the
// processor's caches, and most inputs are over by then. Of allocations a few callers are remembered, not thirty.
extern "C" const char* __asan_default_options();  // NOLINT(*-reserved-identifier): the sanitizer's name

const char* __asan_default_options() { return "quarantine_size_mb=8:malloc_context_size=4"; }
