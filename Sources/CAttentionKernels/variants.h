#pragma once
#include "attention.h"

/// How many keys are taken at a time; even.
#define KEY_BLOCK 128

void run_portable(const attention_block *);
#if defined(__x86_64__)
void run_avx2(const attention_block *);
void run_avx512(const attention_block *);
void run_avx512_bf16(const attention_block *);
#endif
