#pragma once

#include "attention.h"

/// The number of keys processed at a time; even, because bf16 operands are packed in pairs.
#define KEY_BLOCK 128

void pdrop_attention_portable(const pdrop_attention_block *block);
#if defined(__x86_64__)
void pdrop_attention_avx2(const pdrop_attention_block *block);
void pdrop_attention_avx512(const pdrop_attention_block *block);
void pdrop_attention_avx512_vnni(const pdrop_attention_block *block);
void pdrop_attention_avx512_bf16(const pdrop_attention_block *block);
void pdrop_attention_avx512_amx(const pdrop_attention_block *block);
#endif
