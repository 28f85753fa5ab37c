#pragma once

// Functions of Linux that Swift does not import.

/// The number of processors that the scheduler may run this process on; 0 if unknown.
int pdrop_processor_affinity(void);

/// Lets all threads share one arena of the allocator; otherwise each reserves 64 MiB of addresses.
void pdrop_share_arena(void);
