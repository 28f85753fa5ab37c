#include "COneDNN.h"

#if __has_include(<oneapi/dnnl/dnnl.h>)

#include <dlfcn.h>
#include <oneapi/dnnl/dnnl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

// MARK: - The library

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

// The library's functions without their prefix, and what it is.
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
  // The OpenMP library that oneDNN came with; one without OpenMP is asked for nothing.
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

// Instruction sets are bit sets that contain what they build on.
static int has(unsigned set) {
  return pdrop_onednn_version() != 0 && ((unsigned)library.get_effective_cpu_isa() & set) == set;
}

int pdrop_onednn_has_bf16(void) { return has(dnnl_cpu_isa_avx512_core_bf16); }

int pdrop_onednn_has_int8(void) { return has(dnnl_cpu_isa_avx512_core_vnni) || has(dnnl_cpu_isa_avx2_vnni); }

// MARK: - Products

struct shape {
  enum pdrop_onednn_type type;
  int add;
  dnnl_dim_t rows, inputs, outputs, stride;
};

// What a thread keeps: its stream, and the product it did last, since the panels of one product follow each other. The
// library itself remembers the code of products further back.
struct state {
  struct shape shape;
  dnnl_stream_t stream;
  dnnl_primitive_t product;
  dnnl_memory_t x, w, y, scratch;
  void *scratch_bytes;
  size_t scratch_size;
};

static void forget_product(struct state *state) {
  if (state->product) library.primitive_destroy(state->product);
  dnnl_memory_t *const memories[] = {&state->x, &state->w, &state->y, &state->scratch};
  for (int i = 0; i < 4; i++) {
    if (*memories[i]) library.memory_destroy(*memories[i]);
    *memories[i] = NULL;
  }
  state->product = NULL;
}

static void destroy_state(void *pointer) {
  struct state *state = pointer;
  forget_product(state);
  if (state->stream) library.stream_destroy(state->stream);
  free(state->scratch_bytes);
  free(state);
}

static struct state *own_state(void) {
  struct state *state = pthread_getspecific(library.state_key);
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

// A matrix [rows, columns] whose values are `row_stride` and `column_stride` apart.
#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t layout;
typedef const_dnnl_memory_desc_t const_layout;
#define BY_REFERENCE(layout) (layout)
static int describe(layout *result, dnnl_data_type_t type, dnnl_dim_t rows, dnnl_dim_t columns, dnnl_dim_t row_stride,
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
static int describe(layout *result, dnnl_data_type_t type, dnnl_dim_t rows, dnnl_dim_t columns, dnnl_dim_t row_stride,
                    dnnl_dim_t column_stride) {
  const dnnl_dims_t sizes = {rows, columns}, strides = {row_stride, column_stride};
  return library.memory_desc_init_by_strides(result, 2, sizes, type, strides) == dnnl_success;
}
static void discard(layout *layout) { (void)layout; }
#endif

// How the product is to be done: memory of the caller's for scratch, and the sum with what y holds.
static dnnl_primitive_attr_t attributes(const struct shape *shape, dnnl_data_type_t y_type) {
  dnnl_primitive_attr_t attributes = NULL;
  dnnl_post_ops_t sum = NULL;
  if (library.primitive_attr_create(&attributes) != dnnl_success) return NULL;
  int good = library.primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user) == dnnl_success;
  if (good && shape->add) {
    good = library.post_ops_create(&sum) == dnnl_success;
#if DNNL_VERSION_MAJOR >= 3
    good = good && library.post_ops_append_sum(sum, 1, 0, y_type) == dnnl_success;
#else
    (void)y_type;
    good = good && library.post_ops_append_sum(sum, 1) == dnnl_success;
#endif
    good = good && library.primitive_attr_set_post_ops(attributes, sum) == dnnl_success;
    if (sum) library.post_ops_destroy(sum);
  }
  if (good) return attributes;
  library.primitive_attr_destroy(attributes);
  return NULL;
}

static dnnl_primitive_desc_t describe_product(const struct shape *shape, layout x, layout w, layout y,
                                              dnnl_data_type_t y_type) {
  dnnl_primitive_attr_t attr = attributes(shape, y_type);
  if (!attr) return NULL;
  dnnl_primitive_desc_t result = NULL;
#if DNNL_VERSION_MAJOR >= 3
  const int good =
      library.matmul_primitive_desc_create(&result, library.engine, x, w, NULL, y, attr) == dnnl_success;
#else
  dnnl_matmul_desc_t product;
  const int good = library.matmul_desc_init(&product, &x, &w, NULL, &y) == dnnl_success &&
                   library.primitive_desc_create(&result, &product, attr, library.engine, NULL) == dnnl_success;
#endif
  library.primitive_attr_destroy(attr);
  return good ? result : NULL;
}

// Makes the thread's product one of the given shape.
static int prepare(struct state *state, const struct shape *shape) {
  static const dnnl_data_type_t x_types[] = {dnnl_f32, dnnl_bf16, dnnl_u8};
  static const dnnl_data_type_t w_types[] = {dnnl_f32, dnnl_bf16, dnnl_s8};
  static const dnnl_data_type_t y_types[] = {dnnl_f32, dnnl_f32, dnnl_s32};
  if (state->product && memcmp(&state->shape, shape, sizeof *shape) == 0) return 1;
  forget_product(state);

  layout x, w, y;
  memset(&x, 0, sizeof x);
  memset(&w, 0, sizeof w);
  memset(&y, 0, sizeof y);
  dnnl_primitive_desc_t described = NULL;
  int good = describe(&x, x_types[shape->type], shape->rows, shape->inputs, shape->inputs, 1) &&
             describe(&w, w_types[shape->type], shape->inputs, shape->outputs, 1, shape->inputs) &&
             describe(&y, y_types[shape->type], shape->rows, shape->outputs, shape->stride, 1);
  if (good) described = describe_product(shape, x, w, y, y_types[shape->type]);
  good = described && library.primitive_create(&state->product, described) == dnnl_success &&
         library.memory_create(&state->x, BY_REFERENCE(x), library.engine, DNNL_MEMORY_NONE) == dnnl_success &&
         library.memory_create(&state->w, BY_REFERENCE(w), library.engine, DNNL_MEMORY_NONE) == dnnl_success &&
         library.memory_create(&state->y, BY_REFERENCE(y), library.engine, DNNL_MEMORY_NONE) == dnnl_success;
  if (good) {
    const_layout scratch =
        library.primitive_desc_query_md(described, dnnl_query_scratchpad_md, 0);
    const size_t size = library.memory_desc_get_size(scratch);
    if (size > state->scratch_size) {
      free(state->scratch_bytes);
      state->scratch_bytes = aligned_alloc(64, (size + 63) / 64 * 64);
      state->scratch_size = state->scratch_bytes ? size : 0;
      good = state->scratch_bytes != NULL;
    }
    good = good &&
           library.memory_create(&state->scratch, scratch, library.engine, state->scratch_bytes) == dnnl_success;
  }
  if (described) library.primitive_desc_destroy(described);
  discard(&x);
  discard(&w);
  discard(&y);
  if (good) {
    state->shape = *shape;
  } else {
    forget_product(state);
  }
  return good;
}

int pdrop_onednn_product(enum pdrop_onednn_type type, const void *x, size_t rows, const void *w, size_t inputs,
                         size_t outputs, void *y, size_t stride, int add) {
  if (pdrop_onednn_version() == 0) return -1;
  struct state *state = own_state();
  if (!state) return -1;
  struct shape shape;
  memset(&shape, 0, sizeof shape);
  shape.type = type;
  shape.add = add != 0;
  shape.rows = (dnnl_dim_t)rows;
  shape.inputs = (dnnl_dim_t)inputs;
  shape.outputs = (dnnl_dim_t)outputs;
  shape.stride = (dnnl_dim_t)stride;
  if (!prepare(state, &shape)) return -1;
  // The library reads x and w only, though it takes no pointers to constants.
  if (library.memory_set_data_handle(state->x, (void *)(uintptr_t)x) != dnnl_success ||
      library.memory_set_data_handle(state->w, (void *)(uintptr_t)w) != dnnl_success ||
      library.memory_set_data_handle(state->y, y) != dnnl_success)
    return -1;
  const dnnl_exec_arg_t arguments[] = {{DNNL_ARG_SRC, state->x},
                                       {DNNL_ARG_WEIGHTS, state->w},
                                       {DNNL_ARG_DST, state->y},
                                       {DNNL_ARG_SCRATCHPAD, state->scratch}};
  const int done = library.primitive_execute(state->product, state->stream, 4, arguments) == dnnl_success &&
                   library.stream_wait(state->stream) == dnnl_success;
  return done ? 0 : -1;
}

#else

int pdrop_onednn_version(void) { return 0; }
int pdrop_onednn_has_bf16(void) { return 0; }
int pdrop_onednn_has_int8(void) { return 0; }

int pdrop_onednn_product(enum pdrop_onednn_type type, const void *x, size_t rows, const void *w, size_t inputs,
                         size_t outputs, void *y, size_t stride, int add) {
  (void)type, (void)x, (void)rows, (void)w, (void)inputs, (void)outputs, (void)y, (void)stride, (void)add;
  return -1;
}

#endif
