#include "image_codecs.h"

#include <png.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>

/// All state that must survive a longjmp, so that none of it is kept in registers.
typedef struct {
  const unsigned char *rgb;
  int width;
  int height;
  const char *description;
  unsigned char *target;
  size_t capacity;
  size_t count;
  char *message;
  size_t message_size;
  png_structp png;
  png_infop info;
  jmp_buf jump;
} writer;

static void on_error(png_structp png, png_const_charp text) {
  writer *w = png_get_error_ptr(png);
  snprintf(w->message, w->message_size, "%s", text);
  longjmp(w->jump, 1);
}

static void on_warning(png_structp png, png_const_charp text) {
  (void)png;
  (void)text;
}

static void write_bytes(png_structp png, png_bytep bytes, size_t count) {
  writer *w = png_get_io_ptr(png);
  if (count > w->capacity - w->count) png_error(png, "the encoded file exceeds the buffer");
  memcpy(w->target + w->count, bytes, count);
  w->count += count;
}

static void flush(png_structp png) { (void)png; }

/// Writes the whole file. Jumps to w->jump on failure.
static void write_image(writer *w) {
  w->png = png_create_write_struct(PNG_LIBPNG_VER_STRING, w, on_error, on_warning);
  if (!w->png) {
    snprintf(w->message, w->message_size, "libpng did not start");
    longjmp(w->jump, 1);
  }
  w->info = png_create_info_struct(w->png);
  if (!w->info) png_error(w->png, "out of memory");
  png_set_write_fn(w->png, w, write_bytes, flush);
  png_set_IHDR(w->png, w->info, (png_uint_32)w->width, (png_uint_32)w->height, 8, PNG_COLOR_TYPE_RGB,
               PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  if (w->description[0]) {
    png_text text = {.compression = PNG_TEXT_COMPRESSION_NONE,
                     .key = "Description",
                     .text = (char *)w->description,
                     .text_length = strlen(w->description)};
    png_set_text(w->png, w->info, &text, 1);
  }
  png_write_info(w->png, w->info);
  for (int y = 0; y < w->height; y++) png_write_row(w->png, w->rgb + (size_t)y * (size_t)w->width * 3);
  png_write_end(w->png, NULL);
}

bool pdrop_png_encode(const unsigned char *rgb, int width, int height, const char *description, unsigned char *target,
                      size_t capacity, size_t *count, char *message, size_t message_size) {
  writer w = {.rgb = rgb,
              .width = width,
              .height = height,
              .description = description,
              .target = target,
              .capacity = capacity,
              .message = message,
              .message_size = message_size};
  volatile bool result = false;
  if (setjmp(w.jump) == 0) {
    write_image(&w);
    result = true;
  }
  if (w.png) png_destroy_write_struct(&w.png, &w.info);
  *count = w.count;
  return result;
}
