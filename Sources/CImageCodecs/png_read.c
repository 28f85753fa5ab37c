#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "image_codecs.h"

// A PNG reader that accepts the files that Pillow accepts. libpng refuses some of them, such as a file without IEND,
// and accepts others, such as a text chunk with a wrong checksum.
//
// Checksums are verified up to the image data. Decoding ends with the last row; the chunks after the image data must
// be whole, but an end chunk is not required.

/// Limits of Pillow for compressed and other text.
static const size_t text_chunk_limit = 1 << 20;
static const size_t text_limit = 64 << 20;

/// Bytes of image data that the decompressor gets at a time; the last ones of a damaged file depend on it.
static const size_t block_size = 1 << 16;

typedef struct {
  const unsigned char *start;
  size_t length;
  unsigned char name[4];
  /// Number of its bytes in the file, smaller than `length` if the file ends inside.
  size_t available;
} png_chunk;

typedef enum { CHUNK_FOUND, CHUNK_CUT, CHUNK_DAMAGED } chunk_status;

/// The meaning of a chunk: read, image data, the end, or an error.
typedef enum { ACTION_NEXT, ACTION_DATA, ACTION_END, ACTION_FAIL } chunk_action;

typedef struct {
  const unsigned char *bytes;
  size_t count;
  size_t position;
  char *message;
  size_t message_size;

  uint32_t width;
  uint32_t height;
  /// Bits of a sample; zero without a valid header.
  int depth;
  int color;
  bool is_interlaced;
  unsigned char palette[256 * 3];
  bool has_long_palette;

  /// The area of the first frame of an animation.
  bool has_area;
  uint32_t left, top, area_width, area_height;
  /// Number of frames in the header of an animation; -1 without one.
  int64_t frame_count;
  /// Last sequence number of an animation; -1 without one.
  int64_t sequence;
  size_t text_bytes;

  /// Bytes left in the current chunk of image data.
  size_t data_left;
} png_file;

enum { GRAY = 0, RGB = 2, PALETTE = 3, GRAY_ALPHA = 4, RGB_ALPHA = 6 };

static bool fail(png_file *file, const char *text) {
  snprintf(file->message, file->message_size, "%s", text);
  return false;
}

static chunk_action refuse(png_file *file, const char *text) {
  fail(file, text);
  return ACTION_FAIL;
}

static uint32_t number(const unsigned char *bytes) {
  return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static bool is_named(const png_chunk *chunk, const char *name) { return memcmp(chunk->name, name, 4) == 0; }

static bool is_whole(const png_chunk *chunk) { return chunk->available == chunk->length; }

static bool is_name_character(unsigned char c) {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
}

/// Reads the length and the name of a chunk.
static chunk_status next_chunk(png_file *file, png_chunk *chunk) {
  if (file->count - file->position < 8) return CHUNK_CUT;
  const unsigned char *bytes = file->bytes + file->position;
  for (int i = 4; i < 8; i++) {
    if (!is_name_character(bytes[i])) return CHUNK_DAMAGED;
  }
  file->position += 8;
  chunk->length = number(bytes);
  memcpy(chunk->name, bytes + 4, 4);
  chunk->start = bytes + 8;
  size_t left = file->count - file->position;
  chunk->available = chunk->length < left ? chunk->length : left;
  return CHUNK_FOUND;
}

/// Moves past bytes, at most to the end of the file.
static void skip(png_file *file, size_t count) {
  size_t left = file->count - file->position;
  file->position += count < left ? count : left;
}

bool pdrop_inflate(const unsigned char *bytes, size_t count, unsigned char *target, size_t capacity, size_t *written) {
  z_stream stream;
  memset(&stream, 0, sizeof stream);
  *written = 0;
  if (count > UINT32_MAX || capacity > UINT32_MAX || inflateInit(&stream) != Z_OK) return false;
  stream.next_in = (unsigned char *)bytes;
  stream.avail_in = (uInt)count;
  stream.next_out = target;
  stream.avail_out = (uInt)capacity;
  int status = inflate(&stream, Z_SYNC_FLUSH);
  *written = capacity - stream.avail_out;
  inflateEnd(&stream);
  return status == Z_OK || status == Z_STREAM_END || status == Z_BUF_ERROR;
}

/// Decompresses text only to count it; returns ACTION_FAIL for too much of it.
static chunk_action count_text(png_file *file, const unsigned char *bytes, size_t count, size_t *length) {
  *length = 0;
  z_stream stream;
  memset(&stream, 0, sizeof stream);
  if (count == 0) return ACTION_NEXT;
  if (inflateInit(&stream) != Z_OK) return refuse(file, "out of memory");
  stream.next_in = (unsigned char *)bytes;
  stream.avail_in = (uInt)count;
  int status = Z_OK;
  unsigned char buffer[4096];
  while (status == Z_OK && *length < text_chunk_limit) {
    stream.next_out = buffer;
    stream.avail_out = sizeof buffer;
    status = inflate(&stream, Z_SYNC_FLUSH);
    *length += sizeof buffer - stream.avail_out;
  }
  bool is_long = status == Z_OK && stream.avail_in > 0;
  inflateEnd(&stream);
  if (is_long) return refuse(file, "a compressed text or profile of more than 1 MiB");
  // Damaged text is ignored.
  if (status != Z_OK && status != Z_STREAM_END && status != Z_BUF_ERROR) *length = 0;
  return ACTION_NEXT;
}

static chunk_action add_text(png_file *file, size_t count) {
  file->text_bytes += count;
  return file->text_bytes > text_limit ? refuse(file, "more than 64 MiB of text") : ACTION_NEXT;
}

/// The offset of the first zero byte; `length` without one.
static size_t find_zero(const unsigned char *bytes, size_t length) {
  const unsigned char *zero = length > 0 ? memchr(bytes, 0, length) : NULL;
  return zero ? (size_t)(zero - bytes) : length;
}

static chunk_action read_text(png_file *file, const png_chunk *chunk) {
  size_t name = find_zero(chunk->start, chunk->length);
  if (is_named(chunk, "tEXt")) return add_text(file, name < chunk->length && name > 0 ? chunk->length - name - 1 : 0);
  size_t used = name < chunk->length ? name + 1 : name;
  const unsigned char *value = chunk->start + used;
  size_t left = chunk->length - used;
  size_t length = 0;
  if (is_named(chunk, "zTXt")) {
    if (left > 0 && value[0] != 0) return refuse(file, "unknown compression of a text");
    chunk_action action = left > 0 ? count_text(file, value + 1, left - 1, &length) : ACTION_NEXT;
    return action == ACTION_NEXT && name > 0 ? add_text(file, length) : action;
  }
  // iTXt: compression flag, method, language, translated name, text.
  if (left < 2) return ACTION_NEXT;
  const unsigned char *text = value + 2;
  left -= 2;
  for (int i = 0; i < 2; i++) {
    size_t part = find_zero(text, left);
    if (part == left) return ACTION_NEXT;
    text += part + 1;
    left -= part + 1;
  }
  if (value[0] == 0) return add_text(file, left);
  if (value[1] != 0) return ACTION_NEXT;
  chunk_action action = count_text(file, text, left, &length);
  return action == ACTION_NEXT ? add_text(file, length) : action;
}

static chunk_action read_profile(png_file *file, const png_chunk *chunk) {
  size_t name = find_zero(chunk->start, chunk->length);
  // Without a name, the first byte is the method, as in Pillow.
  size_t method = name < chunk->length ? name + 1 : 0;
  if (method >= chunk->length || chunk->start[method] != 0) return refuse(file, "unknown compression of a profile");
  size_t length;
  return count_text(file, chunk->start + method + 1, chunk->length - method - 1, &length);
}

static bool is_supported(int depth, int color) {
  switch (color) {
    case GRAY: return depth == 1 || depth == 2 || depth == 4 || depth == 8 || depth == 16;
    case PALETTE: return depth == 1 || depth == 2 || depth == 4 || depth == 8;
    case RGB:
    case GRAY_ALPHA:
    case RGB_ALPHA: return depth == 8 || depth == 16;
    default: return false;
  }
}

static chunk_action read_image_header(png_file *file, const png_chunk *chunk) {
  if (chunk->length < 13) return refuse(file, "IHDR is too short");
  const unsigned char *s = chunk->start;
  file->width = number(s);
  file->height = number(s + 4);
  if (is_supported(s[8], s[9])) {
    file->depth = s[8];
    file->color = s[9];
  }
  if (s[12] != 0) file->is_interlaced = true;
  return s[11] == 0 ? ACTION_NEXT : refuse(file, "unknown filter method");
}

static chunk_action read_frame_header(png_file *file, const png_chunk *chunk) {
  if (chunk->length < 26) return refuse(file, "fcTL is too short");
  const unsigned char *s = chunk->start;
  uint32_t sequence = number(s);
  if (sequence != file->sequence + 1) return refuse(file, "wrong sequence of the animation");
  file->sequence = sequence;
  uint64_t width = number(s + 4), height = number(s + 8), left = number(s + 12), top = number(s + 16);
  if (left + width > file->width || top + height > file->height) return refuse(file, "a frame outside the image");
  file->has_area = true;
  file->left = (uint32_t)left;
  file->top = (uint32_t)top;
  file->area_width = (uint32_t)width;
  file->area_height = (uint32_t)height;
  return ACTION_NEXT;
}

/// Reads a chunk, except for image data, of which the position is set to the first byte.
static chunk_action read_chunk(png_file *file, const png_chunk *chunk) {
  // Image data before a valid header are an unknown chunk for Pillow.
  if (is_named(chunk, "IDAT") && file->depth > 0) {
    file->data_left = chunk->length;
    return ACTION_DATA;
  }
  if (is_named(chunk, "IEND")) return ACTION_END;
  if (is_named(chunk, "fdAT")) {
    if (chunk->length < 4 || chunk->available < 4) return refuse(file, "fdAT is too short");
    uint32_t sequence = number(chunk->start);
    if (file->sequence < 0 || sequence != file->sequence + 1) return refuse(file, "wrong sequence of the animation");
    file->sequence = sequence;
    skip(file, 4);
    file->data_left = chunk->length - 4;
    return ACTION_DATA;
  }
  if (!is_whole(chunk)) return refuse(file, "the file ends before the image does");
  skip(file, chunk->length);
  if (is_named(chunk, "IHDR")) return read_image_header(file, chunk);
  if (is_named(chunk, "fcTL")) return read_frame_header(file, chunk);
  if (is_named(chunk, "iCCP")) return read_profile(file, chunk);
  if (is_named(chunk, "tEXt") || is_named(chunk, "zTXt") || is_named(chunk, "iTXt")) return read_text(file, chunk);
  if (is_named(chunk, "PLTE") && file->color == PALETTE && file->depth > 0) {
    size_t colours = chunk->length / 3;
    file->has_long_palette = colours > 256;
    memset(file->palette, 0, sizeof file->palette);
    memcpy(file->palette, chunk->start, 3 * (colours < 256 ? colours : 256));
  }
  if (is_named(chunk, "acTL")) {
    if (chunk->length < 8) return refuse(file, "acTL is too short");
    uint32_t frames = number(chunk->start);
    // A second header, or one without frames, makes it a still image.
    bool is_valid = file->frame_count < 0 && frames > 0 && frames <= 0x80000000u;
    file->frame_count = is_valid ? (int64_t)frames : -1;
  }
  static const struct {
    const char *name;
    size_t length;
  } shortest[] = {{"gAMA", 4}, {"cHRM", 32}, {"sRGB", 1}, {"pHYs", 9}};
  for (size_t i = 0; i < sizeof shortest / sizeof shortest[0]; i++) {
    if (is_named(chunk, shortest[i].name) && chunk->length < shortest[i].length) {
      return refuse(file, "a chunk is too short");
    }
  }
  bool has_transparency = file->depth > 0 && (file->color == GRAY || file->color == RGB);
  if (is_named(chunk, "tRNS") && has_transparency && chunk->length < (file->color == RGB ? 6u : 2u)) {
    return refuse(file, "a chunk is too short");
  }
  return ACTION_NEXT;
}

/// Whether the checksum after a chunk is that of its name and data.
static bool check(png_file *file, const png_chunk *chunk) {
  if (file->count - file->position < 4) return fail(file, "the file ends before the image does");
  uLong sum = crc32(crc32(0, NULL, 0), chunk->name, 4);
  sum = crc32_z(sum, chunk->start, chunk->length);
  uint32_t expected = number(file->bytes + file->position);
  file->position += 4;
  return expected == sum || fail(file, "wrong checksum of a chunk");
}

/// Reads up to the image data.
static bool read_header(png_file *file) {
  file->position = 8;
  file->frame_count = file->sequence = -1;
  file->color = -1;
  if (file->count < 8) return fail(file, "the file ends before the image does");
  for (;;) {
    png_chunk chunk;
    switch (next_chunk(file, &chunk)) {
      case CHUNK_CUT: return fail(file, "the file ends before the image does");
      case CHUNK_DAMAGED: return fail(file, "damaged chunk name");
      case CHUNK_FOUND: break;
    }
    chunk_action action = read_chunk(file, &chunk);
    if (action == ACTION_FAIL) return false;
    if (action == ACTION_END) return fail(file, "no image data");
    if (action == ACTION_DATA) break;
    if (!check(file, &chunk)) return false;
  }
  if (file->depth == 0) return fail(file, "unknown colour type or depth");
  if (file->width == 0 || file->height == 0 || file->width > INT32_MAX || file->height > INT32_MAX) {
    return fail(file, "invalid size");
  }
  if (file->has_long_palette) return fail(file, "a palette of more than 256 colours");
  if (!file->has_area) {
    file->area_width = file->width;
    file->area_height = file->height;
  }
  if (file->area_width == 0 || file->area_height == 0) return fail(file, "a frame without pixels");
  // A later header may have made the image smaller than its frame.
  if ((uint64_t)file->left + file->area_width > file->width || (uint64_t)file->top + file->area_height > file->height) {
    return fail(file, "a frame outside the image");
  }
  return true;
}

/// The next bytes of image data; zero at their end.
static size_t next_block(png_file *file, const unsigned char **block) {
  while (file->data_left == 0) {
    skip(file, 4);
    png_chunk chunk;
    if (next_chunk(file, &chunk) != CHUNK_FOUND) return 0;
    if (is_named(&chunk, "DDAT")) {
      file->data_left = chunk.length;
    } else if (!(is_named(&chunk, "IDAT") || is_named(&chunk, "fdAT")) || read_chunk(file, &chunk) != ACTION_DATA) {
      return 0;
    }
  }
  size_t size = file->data_left < block_size ? file->data_left : block_size;
  file->data_left -= size;
  size_t left = file->count - file->position;
  if (size > left) size = left;
  *block = file->bytes + file->position;
  file->position += size;
  return size;
}

static int channels(int color) {
  switch (color) {
    case RGB: return 3;
    case GRAY_ALPHA: return 2;
    case RGB_ALPHA: return 4;
    default: return 1;
  }
}

/// Bytes of a row of pixels, without its filter byte.
static size_t row_size(const png_file *file, size_t pixels) {
  return (pixels * (size_t)(channels(file->color) * file->depth) + 7) / 8;
}

/// Undoes the filter of a row. `distance` is the number of bytes of a pixel, at least 1.
static bool unfilter(int filter, unsigned char *row, const unsigned char *above, size_t size, size_t distance) {
  size_t first = distance < size ? distance : size;
  switch (filter) {
    case 0: return true;
    case 1:
      for (size_t i = first; i < size; i++) row[i] = (unsigned char)(row[i] + row[i - distance]);
      return true;
    case 2:
      for (size_t i = 0; i < size; i++) row[i] = (unsigned char)(row[i] + above[i]);
      return true;
    case 3:
      for (size_t i = 0; i < first; i++) row[i] = (unsigned char)(row[i] + above[i] / 2);
      for (size_t i = first; i < size; i++) row[i] = (unsigned char)(row[i] + (row[i - distance] + above[i]) / 2);
      return true;
    case 4:
      for (size_t i = 0; i < first; i++) row[i] = (unsigned char)(row[i] + above[i]);
      for (size_t i = first; i < size; i++) {
        int left = row[i - distance], up = above[i], corner = above[i - distance];
        int left_error = abs(up - corner), up_error = abs(left - corner), corner_error = abs(left + up - 2 * corner);
        int nearest = left_error <= up_error && left_error <= corner_error ? left
                      : up_error <= corner_error                           ? up
                                                                           : corner;
        row[i] = (unsigned char)(row[i] + nearest);
      }
      return true;
    default: return false;
  }
}

/// Writes a row as RGB, `step` pixels apart: no gamma, no alpha blending, the high byte of 16-bit samples.
static void write_rgb(const png_file *file, const unsigned char *row, size_t pixels, unsigned char *target,
                      size_t step) {
  size_t sample = file->depth == 16 ? 2 : 1;
  size_t size = sample * (size_t)channels(file->color);
  step *= 3;
  if (file->color == RGB || file->color == RGB_ALPHA) {
    if (file->color == RGB && sample == 1 && step == 3) {
      memcpy(target, row, pixels * 3);
      return;
    }
    for (size_t i = 0; i < pixels; i++, row += size, target += step) {
      target[0] = row[0];
      target[1] = row[sample];
      target[2] = row[2 * sample];
    }
    return;
  }
  // Grey samples are scaled to 0...255.
  static const unsigned scales[] = {0, 255, 85, 0, 17};
  int depth = file->depth;
  for (size_t i = 0; i < pixels; i++, target += step) {
    unsigned value;
    if (depth >= 8) {
      value = row[i * size];
    } else {
      size_t bit = i * (size_t)depth;
      value = row[bit / 8] >> (8 - depth - (int)(bit % 8)) & ((1u << depth) - 1);
      if (file->color == GRAY) value *= scales[depth];
    }
    if (file->color == PALETTE) {
      memcpy(target, file->palette + 3 * value, 3);
    } else {
      target[0] = target[1] = target[2] = (unsigned char)value;
    }
  }
}

/// The rows of an image in the order of the file: one pass, or the seven of an interlaced image.
typedef struct {
  int pass;
  size_t x, y, column_step, row_step, pixels;
} row_order;

/// Starts a pass; false if it has no pixel or does not exist.
static bool start_pass(const png_file *file, row_order *order, int pass) {
  static const unsigned char passes[7][4] = {{0, 0, 8, 8}, {4, 0, 8, 8}, {0, 4, 4, 8}, {2, 0, 4, 4},
                                             {0, 2, 2, 4}, {1, 0, 2, 2}, {0, 1, 1, 2}};
  static const unsigned char whole[4] = {0, 0, 1, 1};
  const unsigned char *steps = file->is_interlaced ? passes[pass] : whole;
  *order = (row_order){.pass = pass, .x = steps[0], .y = steps[1], .column_step = steps[2], .row_step = steps[3]};
  if (order->x >= file->area_width || order->y >= file->area_height) return false;
  order->pixels = (file->area_width - order->x + order->column_step - 1) / order->column_step;
  return true;
}

typedef struct {
  z_stream stream;
  unsigned char *row, *above;
  /// Bytes of the current row so far, its filter byte included.
  size_t filled;
  row_order order;
} png_decoder;

/// Decodes rows from a block of image data. Sets *is_complete after the last row, or at the end of the compressed data
/// with a row: missing rows are left black.
static bool decode_block(png_file *file, png_decoder *d, const unsigned char *block, size_t size, unsigned char *rgb,
                         bool *is_complete) {
  size_t distance = row_size(file, 1);
  d->stream.next_in = (unsigned char *)block;
  d->stream.avail_in = (uInt)size;
  while (d->stream.avail_in > 0) {
    size_t row_bytes = row_size(file, d->order.pixels);
    d->stream.next_out = d->row + d->filled;
    size_t missing = row_bytes + 1 - d->filled;
    d->stream.avail_out = (uInt)missing;
    int status = inflate(&d->stream, Z_NO_FLUSH);
    if (status < 0) return fail(file, "damaged compressed data");
    d->filled = row_bytes + 1 - d->stream.avail_out;
    if (d->stream.avail_out > 0) return true;
    if (!unfilter(d->row[0], d->row + 1, d->above + 1, row_bytes, distance)) return fail(file, "unknown filter");
    size_t x = file->left + d->order.x;
    size_t y = file->top + d->order.y;
    write_rgb(file, d->row + 1, d->order.pixels, rgb + 3 * (y * file->width + x), d->order.column_step);
    d->filled = 0;
    unsigned char *above = d->above;
    d->above = d->row;
    d->row = above;
    d->order.y += d->order.row_step;
    if (d->order.y >= file->area_height) {
      int pass = d->order.pass + 1;
      int pass_count = file->is_interlaced ? 7 : 1;
      while (pass < pass_count && !start_pass(file, &d->order, pass)) pass++;
      *is_complete = pass >= pass_count;
      memset(d->above, 0, row_size(file, file->area_width) + 1);
    }
    if (status == Z_STREAM_END) *is_complete = true;
    if (*is_complete) return true;
  }
  return true;
}

static bool decode_rows(png_file *file, unsigned char *rgb) {
  size_t capacity = row_size(file, file->area_width) + 1;
  if (capacity > INT32_MAX) return fail(file, "too wide");
  png_decoder d;
  memset(&d, 0, sizeof d);
  d.row = calloc(1, capacity);
  d.above = calloc(1, capacity);
  bool result = d.row && d.above && inflateInit(&d.stream) == Z_OK;
  if (!result) fail(file, "out of memory");
  if (file->color == PALETTE && (file->palette[0] || file->palette[1] || file->palette[2])) {
    // Missing pixels have the first colour.
    for (size_t i = 0; i < (size_t)file->width * file->height; i++) memcpy(rgb + 3 * i, file->palette, 3);
  }
  if (result) {
    start_pass(file, &d.order, 0);
    bool is_complete = false;
    while (result && !is_complete) {
      const unsigned char *block;
      size_t size = next_block(file, &block);
      result = size > 0 ? decode_block(file, &d, block, size, rgb, &is_complete)
                        : fail(file, "the file ends before the image does");
    }
    inflateEnd(&d.stream);
  }
  free(d.row);
  free(d.above);
  return result;
}

/// Checks the chunks after the image data, without their checksums. The end chunk may be missing or cut.
static bool read_rest(png_file *file) {
  // An image before the first frame is one more frame.
  bool is_animated = file->frame_count > 1 || (file->frame_count == 1 && !file->has_area);
  skip(file, file->data_left);
  for (;;) {
    skip(file, 4);
    png_chunk chunk;
    if (next_chunk(file, &chunk) != CHUNK_FOUND) return true;
    if (is_named(&chunk, "IEND") || (is_animated && is_named(&chunk, "fcTL"))) return true;
    switch (read_chunk(file, &chunk)) {
      case ACTION_FAIL: return false;
      case ACTION_DATA:
        if (!is_whole(&chunk)) return fail(file, "the file ends before the image does");
        skip(file, file->data_left);
        break;
      default: break;
    }
  }
}

bool pdrop_png_read_header(const unsigned char *bytes, size_t count, pdrop_image_header *header, char *message,
                           size_t message_size) {
  png_file file = {.bytes = bytes, .count = count, .message = message, .message_size = message_size};
  bool result = read_header(&file);
  *header = (pdrop_image_header){0};
  if (result) {
    header->width = (int)file.width;
    header->height = (int)file.height;
    // Two rows, and the window and state of zlib.
    header->working_bytes = (1 << 16) + 2 * (row_size(&file, file.area_width) + 1);
  }
  return result;
}

bool pdrop_png_decode(const unsigned char *bytes, size_t count, int width, int height, unsigned char *rgb,
                      char *message, size_t message_size) {
  png_file file = {.bytes = bytes, .count = count, .message = message, .message_size = message_size};
  if (!read_header(&file)) return false;
  if (file.width != (uint32_t)width || file.height != (uint32_t)height) {
    return fail(&file, "the size differs from the header");
  }
  return decode_rows(&file, rgb) && read_rest(&file);
}
