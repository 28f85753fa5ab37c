#pragma once

// Functions of the system that Swift does not import.

/// The number of processors that the scheduler may run this process on; 0 if unknown.
int pdrop_processor_affinity(void);

/// Opens those of standard input, output and error that are closed, in such a way that reads and writes fail; messages are
/// dropped.
void pdrop_fill_standard_files(void);

/// Ends the process with `status` in place of SIGABRT. The runtime of Swift has then printed a line that memory is
/// exhausted.
void pdrop_exit_on_abort(int status);

/// Lets all threads share one arena of the allocator; otherwise each reserves 64 MiB of addresses.
void pdrop_share_arena(void);
