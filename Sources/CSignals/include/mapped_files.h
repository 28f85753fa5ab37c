#pragma once

#include <stddef.h>

// One line and an exit status for reads of mapped files that were cut, which the system reports as SIGBUS.

/// A mapped file whose reads may fault.
typedef struct pdrop_mapped_file pdrop_mapped_file;

/// Registers a mapped file with the line to print if a read of it faults; copies the line. NULL if memory is exhausted.
pdrop_mapped_file *pdrop_register_mapped_file(const void *base, size_t byte_count, const char *line);

/// Removes a registered file, before it is unmapped; does nothing for NULL.
void pdrop_unregister_mapped_file(pdrop_mapped_file *file);

/// Ends the process with `status` and the file's line on stderr when a read of a registered file faults.
///
/// Other faults go to the handler that was installed before.
void pdrop_exit_on_cut_files(int status);
