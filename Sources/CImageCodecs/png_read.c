#include "image_codecs.h"

#include <png.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>

/// All state that must survive a longjmp, so that none of it is kept in registers.
typedef struct {
  const unsigned char *bytes;
  size_t count;
  size_t position;
  int width;
  int height;
  unsigned char *rgb;
  bool result;
  char *message;
  size_t message_size;
  png_structp png;
  png_infop info;
  jmp_buf jump;
} reader;

static void on_error(png_structp png, png_const_charp text) {
  reader *r = png_get_error_ptr(png);
  snprintf(r->message, r->message_size, "%s", text);
  longjmp(r->jump, 1);
}

/// Ignores warnings: they concern ancillary chunks, which do not change the returned pixels.
static void on_warning(png_structp png, png_const_charp text) {
  (void)png;
  (void)text;
}

static void read_bytes(png_structp png, png_bytep target, size_t count) {
  reader *r = png_get_io_ptr(png);
  if (count > r->count - r->position) png_error(png, "the file ends before the image does");
  memcpy(target, r->bytes + r->position, count);
  r->position += count;
}

/// Reads up to the first image data. Jumps to r->jump on failure.
static void start(reader *r) {
  r->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, r, on_error, on_warning);
  if (!r->png) {
    snprintf(r->message, r->message_size, "libpng did not start");
    longjmp(r->jump, 1);
  }
  r->info = png_create_info_struct(r->png);
  if (!r->info) png_error(r->png, "out of memory");
  png_set_read_fn(r->png, r, read_bytes);
  // The caller checks width times height. Chunks that only describe the image are skipped, so that a compressed
  // profile or text cannot expand in memory.
  png_set_user_limits(r->png, 0x7FFFFFFF, 0x7FFFFFFF);
  png_set_chunk_malloc_max(r->png, 8000000);
  png_set_chunk_cache_max(r->png, 128);
  png_set_keep_unknown_chunks(r->png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
  png_read_info(r->png, r->info);
}

/// Requests 8-bit RGB from libpng: no gamma, no alpha blending, the high byte of 16-bit samples.
static void request_rgb(reader *r) {
  int color = png_get_color_type(r->png, r->info);
  int depth = png_get_bit_depth(r->png, r->info);
  if (color == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(r->png);
  if (color == PNG_COLOR_TYPE_GRAY && depth < 8) png_set_expand_gray_1_2_4_to_8(r->png);
  if (depth == 16) png_set_strip_16(r->png);
  if (!(color & PNG_COLOR_MASK_COLOR)) png_set_gray_to_rgb(r->png);
  png_set_strip_alpha(r->png);
}

static void read_header(reader *r) {
  start(r);
  r->width = (int)png_get_image_width(r->png, r->info);
  r->height = (int)png_get_image_height(r->png, r->info);
}

static void read_image(reader *r) {
  size_t row_size = (size_t)r->width * 3;
  start(r);
  if (png_get_image_width(r->png, r->info) != (png_uint_32)r->width ||
      png_get_image_height(r->png, r->info) != (png_uint_32)r->height) {
    png_error(r->png, "the size differs from the header");
  }
  request_rgb(r);
  int passes = png_set_interlace_handling(r->png);
  png_read_update_info(r->png, r->info);
  if (png_get_rowbytes(r->png, r->info) != row_size) png_error(r->png, "rows are not 8-bit RGB");
  for (int pass = 0; pass < passes; pass++) {
    for (int y = 0; y < r->height; y++) png_read_row(r->png, r->rgb + (size_t)y * row_size, NULL);
  }
  png_read_end(r->png, NULL);
}

/// Runs `body` and catches its jump. The reader belongs to the caller, so a jump leaves its fields as last written.
static bool run(reader *r, void (*body)(reader *)) {
  r->result = false;
  if (setjmp(r->jump) == 0) {
    body(r);
    r->result = true;
  }
  if (r->png) png_destroy_read_struct(&r->png, &r->info, NULL);
  return r->result;
}

bool pdrop_png_read_header(const unsigned char *bytes, size_t count, int *width, int *height, char *message,
                           size_t message_size) {
  reader r = {.bytes = bytes, .count = count, .message = message, .message_size = message_size};
  bool result = run(&r, read_header);
  *width = r.width;
  *height = r.height;
  return result;
}

bool pdrop_png_decode(const unsigned char *bytes, size_t count, int width, int height, unsigned char *rgb,
                      char *message, size_t message_size) {
  reader r = {.bytes = bytes, .count = count, .message = message, .message_size = message_size};
  r.width = width;
  r.height = height;
  r.rgb = rgb;
  return run(&r, read_image);
}
