#include "onednn.h"

#if __has_include(<oneapi/dnnl/dnnl.h>)

#include <dlfcn.h>
#include <oneapi/dnnl/dnnl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

// MARK: - The library

// clang-format off
#if DNNL_VERSION_MAJOR >= 3
#define VERSIONED_FUNCTIONS(X) \
  X(memory_desc_create_with_strides) X(memory_desc_destroy) X(matmul_primitive_desc_create)
#else
#define VERSIONED_FUNCTIONS(X) X(memory_desc_init_by_strides) X(matmul_desc_init) X(primitive_desc_create)
#endif

#define FUNCTIONS(X)                                                                                         \
  X(version) X(get_effective_cpu_isa) X(engine_create) X(stream_create) X(stream_destroy) X(stream_wait)     \
  X(primitive_attr_create) X(primitive_attr_destroy) X(primitive_attr_set_scratchpad_mode)                   \
  X(primitive_attr_set_post_ops) X(post_ops_create) X(post_ops_destroy) X(post_ops_append_sum)               \
  X(primitive_desc_destroy) X(primitive_desc_query_md) X(primitive_create) X(primitive_destroy)              \
  X(primitive_execute) X(memory_create) X(memory_destroy) X(memory_set_data_handle) X(memory_desc_get_size)  \
  VERSIONED_FUNCTIONS(X)
// clang-format on

/// The functions of the library without their prefix, and its state.
static struct {
#define POINTER(name) __typeof__(dnnl_##name) *name;
  FUNCTIONS(POINTER)
#undef POINTER
  void (*set_thread_count)(int);
  dnnl_engine_t engine;
  pthread_key_t state_key;
  int version_number;
} library;

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)
#if defined(__APPLE__)
#define LIBRARY_NAME "libdnnl." TEXT(DNNL_VERSION_MAJOR) ".dylib"
#else
#define LIBRARY_NAME "libdnnl.so." TEXT(DNNL_VERSION_MAJOR)
#endif

static void destroy_state(void *state);

static void load(void) {
  void *handle = dlopen(LIBRARY_NAME, RTLD_NOW | RTLD_LOCAL);
  if (!handle) return;
#define FIND(name) \
  if (!(library.name = (__typeof__(library.name))dlsym(handle, "dnnl_" #name))) return;
  FUNCTIONS(FIND)
#undef FIND
  // Provided by the OpenMP runtime of oneDNN; NULL if oneDNN is built without OpenMP.
  library.set_thread_count = (void (*)(int))dlsym(handle, "omp_set_num_threads");
  const dnnl_version_t *version = library.version();
  if (version->major != DNNL_VERSION_MAJOR) return;
  if (library.engine_create(&library.engine, dnnl_cpu, 0) != dnnl_success) return;
  if (pthread_key_create(&library.state_key, destroy_state) != 0) return;
  library.version_number = version->major * 10000 + version->minor * 100 + version->patch;
}

static pthread_once_t loaded = PTHREAD_ONCE_INIT;

int pdrop_onednn_version(void) {
  pthread_once(&loaded, load);
  return library.version_number;
}

/// Whether oneDNN may use an instruction set. Its constants are bit sets that include the sets they build on.
static bool has_isa(unsigned set) {
  return pdrop_onednn_version() != 0 && ((unsigned)library.get_effective_cpu_isa() & set) == set;
}

bool pdrop_onednn_has_bf16(void) { return has_isa(dnnl_cpu_isa_avx512_core_bf16); }

bool pdrop_onednn_has_int8(void) { return has_isa(dnnl_cpu_isa_avx512_core_vnni) || has_isa(dnnl_cpu_isa_avx2_vnni); }

// MARK: - GEMM

typedef struct {
  pdrop_onednn_type type;
  bool add;
  dnnl_dim_t rows, inputs, outputs, stride;
} gemm_shape;

static bool is_same_shape(const gemm_shape *a, const gemm_shape *b) {
  return a->type == b->type && a->add == b->add && a->rows == b->rows && a->inputs == b->inputs &&
         a->outputs == b->outputs && a->stride == b->stride;
}

/// The state of one thread: its stream and its most recent matmul primitive, because the panels of one matmul follow
/// each other. The library itself caches the code of earlier primitives.
typedef struct {
  gemm_shape shape;
  dnnl_stream_t stream;
  dnnl_primitive_t matmul;
  dnnl_memory_t x, w, y, scratch;
  void *scratch_bytes;
  size_t scratch_size;
} thread_state;

static void discard_matmul(thread_state *state) {
  if (state->matmul) library.primitive_destroy(state->matmul);
  dnnl_memory_t *const memories[] = {&state->x, &state->w, &state->y, &state->scratch};
  for (int i = 0; i < 4; i++) {
    if (*memories[i]) library.memory_destroy(*memories[i]);
    *memories[i] = NULL;
  }
  state->matmul = NULL;
}

static void destroy_state(void *pointer) {
  thread_state *state = pointer;
  discard_matmul(state);
  if (state->stream) library.stream_destroy(state->stream);
  free(state->scratch_bytes);
  free(state);
}

/// The state of the calling thread, created at its first call; NULL if that fails.
static thread_state *current_state(void) {
  thread_state *state = pthread_getspecific(library.state_key);
  if (state) return state;
  if (library.set_thread_count) library.set_thread_count(1);
  state = calloc(1, sizeof *state);
  if (!state) return NULL;
  if (library.stream_create(&state->stream, library.engine, dnnl_stream_default_flags) != dnnl_success ||
      pthread_setspecific(library.state_key, state) != 0) {
    destroy_state(state);
    return NULL;
  }
  return state;
}

// The descriptor of a matrix: `describe` makes one for [rows, columns] whose elements are `row_stride` and
// `column_stride` apart; `discard` frees it.
#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t layout;
typedef const_dnnl_memory_desc_t const_layout;
#define BY_REFERENCE(layout) (layout)
static bool describe(layout *result, dnnl_data_type_t type, dnnl_dim_t rows, dnnl_dim_t columns, dnnl_dim_t row_stride,
                     dnnl_dim_t column_stride) {
  const dnnl_dims_t sizes = {rows, columns}, strides = {row_stride, column_stride};
  return library.memory_desc_create_with_strides(result, 2, sizes, type, strides) == dnnl_success;
}
static void discard(layout *layout) {
  if (*layout) library.memory_desc_destroy(*layout);
}
#else
typedef dnnl_memory_desc_t layout;
typedef const dnnl_memory_desc_t *const_layout;
#define BY_REFERENCE(layout) (&(layout))
static bool describe(layout *result, dnnl_data_type_t type, dnnl_dim_t rows, dnnl_dim_t columns, dnnl_dim_t row_stride,
                     dnnl_dim_t column_stride) {
  const dnnl_dims_t sizes = {rows, columns}, strides = {row_stride, column_stride};
  return library.memory_desc_init_by_strides(result, 2, sizes, type, strides) == dnnl_success;
}
static void discard(layout *layout) { (void)layout; }
#endif

/// Attributes of the primitive: caller-provided scratch memory, and accumulation into y with `add`.
static dnnl_primitive_attr_t attributes(const gemm_shape *shape, dnnl_data_type_t y_type) {
  dnnl_primitive_attr_t attributes = NULL;
  dnnl_post_ops_t sum = NULL;
  if (library.primitive_attr_create(&attributes) != dnnl_success) return NULL;
  bool ok = library.primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user) == dnnl_success;
  if (ok && shape->add) {
    ok = library.post_ops_create(&sum) == dnnl_success;
#if DNNL_VERSION_MAJOR >= 3
    ok = ok && library.post_ops_append_sum(sum, 1, 0, y_type) == dnnl_success;
#else
    (void)y_type;
    ok = ok && library.post_ops_append_sum(sum, 1) == dnnl_success;
#endif
    ok = ok && library.primitive_attr_set_post_ops(attributes, sum) == dnnl_success;
    if (sum) library.post_ops_destroy(sum);
  }
  if (ok) return attributes;
  library.primitive_attr_destroy(attributes);
  return NULL;
}

static dnnl_primitive_desc_t describe_matmul(const gemm_shape *shape, layout x, layout w, layout y,
                                             dnnl_data_type_t y_type) {
  dnnl_primitive_attr_t attr = attributes(shape, y_type);
  if (!attr) return NULL;
  dnnl_primitive_desc_t result = NULL;
#if DNNL_VERSION_MAJOR >= 3
  const bool ok = library.matmul_primitive_desc_create(&result, library.engine, x, w, NULL, y, attr) == dnnl_success;
#else
  dnnl_matmul_desc_t matmul;
  const bool ok = library.matmul_desc_init(&matmul, &x, &w, NULL, &y) == dnnl_success &&
                  library.primitive_desc_create(&result, &matmul, attr, library.engine, NULL) == dnnl_success;
#endif
  library.primitive_attr_destroy(attr);
  return ok ? result : NULL;
}

/// Makes the matmul primitive of the thread match a shape.
static bool prepare(thread_state *state, const gemm_shape *shape) {
  const bool is_bf16 = shape->type == pdrop_onednn_bf16;
  const dnnl_data_type_t x_type = is_bf16 ? dnnl_bf16 : dnnl_u8;
  const dnnl_data_type_t w_type = is_bf16 ? dnnl_bf16 : dnnl_s8;
  const dnnl_data_type_t y_type = is_bf16 ? dnnl_f32 : dnnl_s32;
  if (state->matmul && is_same_shape(&state->shape, shape)) return true;
  discard_matmul(state);

  layout x, w, y;
  memset(&x, 0, sizeof x);
  memset(&w, 0, sizeof w);
  memset(&y, 0, sizeof y);
  dnnl_primitive_desc_t described = NULL;
  bool ok = describe(&x, x_type, shape->rows, shape->inputs, shape->inputs, 1) &&
            describe(&w, w_type, shape->inputs, shape->outputs, 1, shape->inputs) &&
            describe(&y, y_type, shape->rows, shape->outputs, shape->stride, 1);
  if (ok) described = describe_matmul(shape, x, w, y, y_type);
  ok = described && library.primitive_create(&state->matmul, described) == dnnl_success &&
       library.memory_create(&state->x, BY_REFERENCE(x), library.engine, DNNL_MEMORY_NONE) == dnnl_success &&
       library.memory_create(&state->w, BY_REFERENCE(w), library.engine, DNNL_MEMORY_NONE) == dnnl_success &&
       library.memory_create(&state->y, BY_REFERENCE(y), library.engine, DNNL_MEMORY_NONE) == dnnl_success;
  if (ok) {
    const_layout scratch = library.primitive_desc_query_md(described, dnnl_query_scratchpad_md, 0);
    const size_t size = library.memory_desc_get_size(scratch);
    if (size > state->scratch_size) {
      free(state->scratch_bytes);
      state->scratch_bytes = aligned_alloc(64, (size + 63) / 64 * 64);
      state->scratch_size = state->scratch_bytes ? size : 0;
      ok = state->scratch_bytes != NULL;
    }
    ok = ok && library.memory_create(&state->scratch, scratch, library.engine, state->scratch_bytes) == dnnl_success;
  }
  if (described) library.primitive_desc_destroy(described);
  discard(&x);
  discard(&w);
  discard(&y);
  if (ok) {
    state->shape = *shape;
  } else {
    discard_matmul(state);
  }
  return ok;
}

bool pdrop_onednn_gemm(pdrop_onednn_type type, const void *x, size_t rows, const void *w, size_t inputs, size_t outputs,
                       void *y, size_t stride, bool add) {
  if (pdrop_onednn_version() == 0) return false;
  thread_state *state = current_state();
  if (!state) return false;
  const gemm_shape shape = {
      .type = type,
      .add = add,
      .rows = (dnnl_dim_t)rows,
      .inputs = (dnnl_dim_t)inputs,
      .outputs = (dnnl_dim_t)outputs,
      .stride = (dnnl_dim_t)stride,
  };
  if (!prepare(state, &shape)) return false;
  // The library only reads x and w, although its parameters are not const.
  if (library.memory_set_data_handle(state->x, (void *)(uintptr_t)x) != dnnl_success ||
      library.memory_set_data_handle(state->w, (void *)(uintptr_t)w) != dnnl_success ||
      library.memory_set_data_handle(state->y, y) != dnnl_success)
    return false;
  const dnnl_exec_arg_t arguments[] = {{DNNL_ARG_SRC, state->x},
                                       {DNNL_ARG_WEIGHTS, state->w},
                                       {DNNL_ARG_DST, state->y},
                                       {DNNL_ARG_SCRATCHPAD, state->scratch}};
  return library.primitive_execute(state->matmul, state->stream, 4, arguments) == dnnl_success &&
         library.stream_wait(state->stream) == dnnl_success;
}

#else

int pdrop_onednn_version(void) { return 0; }
bool pdrop_onednn_has_bf16(void) { return false; }
bool pdrop_onednn_has_int8(void) { return false; }

bool pdrop_onednn_gemm(pdrop_onednn_type type, const void *x, size_t rows, const void *w, size_t inputs, size_t outputs,
                       void *y, size_t stride, bool add) {
  (void)type, (void)x, (void)rows, (void)w, (void)inputs, (void)outputs, (void)y, (void)stride, (void)add;
  return false;
}

#endif
