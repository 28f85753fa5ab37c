#pragma once

/// The number of allocations of this process so far, by all threads; -1 where they cannot be counted.
long allocation_count(void);
