#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
// jpeglib.h needs stdio.h.
#include <jpeglib.h>

#include "image_codecs.h"

/// Maximum number of scans: without a limit, a few kilobytes of empty progressive scans take minutes to decode.
static const int scan_limit = 500;

/// All state that must survive a longjmp, so that none of it is kept in registers.
typedef struct {
  struct jpeg_decompress_struct jpeg;
  struct jpeg_error_mgr errors;
  struct jpeg_source_mgr source;
  struct jpeg_progress_mgr progress;
  int width;
  int height;
  unsigned char *rgb;
  unsigned char *cmyk_row;
  size_t working_bytes;
  bool result;
  char *message;
  size_t message_size;
  jmp_buf jump;
} reader;

static reader *reader_of(j_common_ptr jpeg) { return jpeg->client_data; }

static void on_error(j_common_ptr jpeg) {
  reader *r = reader_of(jpeg);
  char text[JMSG_LENGTH_MAX];
  r->errors.format_message(jpeg, text);
  snprintf(r->message, r->message_size, "%s", text);
  longjmp(r->jump, 1);
}

static void fail(reader *r, const char *text) {
  snprintf(r->message, r->message_size, "%s", text);
  longjmp(r->jump, 1);
}

/// Ignores warnings, as Pillow does: stray bytes are common in good files.
static void ignore_message(j_common_ptr jpeg) { (void)jpeg; }

static void ignore_event(j_decompress_ptr jpeg) { (void)jpeg; }

/// Suspends the decoder at the end of the file. The default source of libjpeg would invent an end of the image.
static boolean suspend(j_decompress_ptr jpeg) {
  (void)jpeg;
  return FALSE;
}

static void skip_bytes(j_decompress_ptr jpeg, long count) {
  if (count <= 0) return;
  size_t skipped = (size_t)count < jpeg->src->bytes_in_buffer ? (size_t)count : jpeg->src->bytes_in_buffer;
  jpeg->src->next_input_byte += skipped;
  jpeg->src->bytes_in_buffer -= skipped;
}

static void check_scans(j_common_ptr jpeg) {
  if (((j_decompress_ptr)jpeg)->input_scan_number > scan_limit) fail(reader_of(jpeg), "more than 500 scans");
}

static bool is_frame(int marker) {
  return (marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC) || marker == 0xDE;
}

/// Whether Pillow accepts a segment before the image data, by its marker and its bytes after the length.
static bool is_valid_segment(int marker, const unsigned char *s, size_t size) {
  if (marker == 0xDB) {
    while (size > 0) {
      size_t table = 1 + (s[0] < 16 ? 64 : 128);
      if (size < table) return false;
      s += table;
      size -= table;
    }
  }
  if (is_frame(marker)) {
    bool has_channels = size >= 6 && (s[5] == 1 || s[5] == 3 || s[5] == 4);
    return has_channels && s[0] == 8 && size % 3 == 0;
  }
  if (marker == 0xE0 && size >= 4 && memcmp(s, "JFIF", 4) == 0) return size >= 7;
  if (marker == 0xEE && size >= 5 && memcmp(s, "Adobe", 5) == 0) return size >= 7;
  return true;
}

/// Whether Pillow, which reads the segments itself before it starts libjpeg, accepts those before the image data.
static bool has_valid_segments(const unsigned char *bytes, size_t count) {
  size_t i = 2;
  for (;;) {
    while (i < count && bytes[i] != 0xFF) i++;
    while (i < count && bytes[i] == 0xFF) i++;
    if (i >= count) return false;
    int marker = bytes[i++];
    if (marker == 0) continue;
    if (marker < 0xC0) return false;
    // Markers without a length, or that only libjpeg reads.
    if (marker == 0xC8 || (marker >= 0xD0 && marker <= 0xD9) || (marker >= 0xF0 && marker <= 0xFD)) continue;
    if (count - i < 2) return false;
    size_t length = (size_t)bytes[i] << 8 | bytes[i + 1];
    size_t size = length > 2 ? length - 2 : 0;
    i += 2;
    if (count - i < size || !is_valid_segment(marker, bytes + i, size)) return false;
    if (marker == 0xDA) return true;
    i += size;
  }
}

/// The largest memory of the decoder: strips of the image, and all coefficients if they come in several scans.
static size_t working_bytes(j_decompress_ptr jpeg) {
  // Strips of samples and of coefficients: each less than 64 bytes for every sample of a row of MCUs.
  size_t bytes = (1 << 16) + (size_t)jpeg->image_width * (size_t)jpeg->num_components * 64;
  if (!jpeg_has_multiple_scans(jpeg)) return bytes;
  size_t mcu_columns = (jpeg->image_width + 8 * (size_t)jpeg->max_h_samp_factor - 1) / (8 * jpeg->max_h_samp_factor);
  size_t mcu_rows = (jpeg->image_height + 8 * (size_t)jpeg->max_v_samp_factor - 1) / (8 * jpeg->max_v_samp_factor);
  for (int i = 0; i < jpeg->num_components; i++) {
    const jpeg_component_info *component = &jpeg->comp_info[i];
    size_t blocks = (size_t)component->h_samp_factor * component->v_samp_factor * mcu_columns * mcu_rows;
    bytes += blocks * sizeof(JBLOCK);
  }
  return bytes;
}

static void start(reader *r) {
  int status;
  do {
    status = jpeg_read_header(&r->jpeg, FALSE);
  } while (status == JPEG_HEADER_TABLES_ONLY);
  if (status != JPEG_HEADER_OK) fail(r, "the file ends before the image does");
  if (r->jpeg.image_width > JPEG_MAX_DIMENSION || r->jpeg.image_height > JPEG_MAX_DIMENSION) fail(r, "too large");
}

static void read_header(reader *r) {
  start(r);
  r->width = (int)r->jpeg.image_width;
  r->height = (int)r->jpeg.image_height;
  r->working_bytes = working_bytes(&r->jpeg);
}

/// a * b / 255, rounded.
static unsigned char multiply(unsigned a, unsigned b) {
  unsigned scaled = a * b + 128;
  return (unsigned char)(((scaled >> 8) + scaled) >> 8);
}

/// Converts CMYK to RGB. The four channels are stored inverted, as Adobe writes them: each is 255 - ink.
static void convert_inverted_cmyk(const unsigned char *cmyk, unsigned char *rgb, size_t pixels) {
  for (size_t i = 0; i < pixels; i++) {
    unsigned light = cmyk[4 * i + 3];
    for (size_t c = 0; c < 3; c++) {
      rgb[3 * i + c] = (unsigned char)(light - multiply(255u - cmyk[4 * i + c], light));
    }
  }
}

static void read_image(reader *r) {
  start(r);
  if (r->jpeg.image_width != (JDIMENSION)r->width || r->jpeg.image_height != (JDIMENSION)r->height) {
    fail(r, "the size differs from the header");
  }
  bool is_cmyk = r->jpeg.num_components == 4;
  r->jpeg.out_color_space = is_cmyk ? JCS_CMYK : JCS_RGB;
  if (is_cmyk) {
    r->cmyk_row = malloc((size_t)r->width * 4);
    if (!r->cmyk_row) fail(r, "out of memory");
  }
  // Decoding in several scans needs all of the file here.
  if (!jpeg_start_decompress(&r->jpeg)) fail(r, "the file ends before the image does");
  size_t row_size = (size_t)r->width * 3;
  for (int y = 0; y < r->height; y++) {
    unsigned char *target = r->rgb + (size_t)y * row_size;
    JSAMPROW row = is_cmyk ? r->cmyk_row : target;
    if (jpeg_read_scanlines(&r->jpeg, &row, 1) != 1) fail(r, "the file ends before the image does");
    if (is_cmyk) convert_inverted_cmyk(r->cmyk_row, target, (size_t)r->width);
  }
  // An end of file after the last row is not an error, as in Pillow; the start of another image is.
  jpeg_finish_decompress(&r->jpeg);
}

/// Runs `body` and catches its jump. The reader belongs to the caller, so a jump leaves its fields as last written.
static bool run(reader *r, const unsigned char *bytes, size_t count, void (*body)(reader *)) {
  r->result = false;
  if (!has_valid_segments(bytes, count)) {
    snprintf(r->message, r->message_size, "damaged header");
    return false;
  }
  r->jpeg.err = jpeg_std_error(&r->errors);
  r->errors.error_exit = on_error;
  r->errors.output_message = ignore_message;
  r->jpeg.client_data = r;
  if (setjmp(r->jump) == 0) {
    jpeg_create_decompress(&r->jpeg);
    r->source.init_source = ignore_event;
    r->source.fill_input_buffer = suspend;
    r->source.skip_input_data = skip_bytes;
    r->source.resync_to_restart = jpeg_resync_to_restart;
    r->source.term_source = ignore_event;
    r->source.next_input_byte = bytes;
    r->source.bytes_in_buffer = count;
    r->jpeg.src = &r->source;
    r->progress.progress_monitor = check_scans;
    r->jpeg.progress = &r->progress;
    body(r);
    r->result = true;
  }
  jpeg_destroy_decompress(&r->jpeg);
  free(r->cmyk_row);
  return r->result;
}

bool pdrop_jpeg_read_header(const unsigned char *bytes, size_t count, pdrop_image_header *header, char *message,
                            size_t message_size) {
  reader r = {.message = message, .message_size = message_size};
  bool result = run(&r, bytes, count, read_header);
  *header = (pdrop_image_header){.width = r.width, .height = r.height, .working_bytes = r.working_bytes};
  return result;
}

bool pdrop_jpeg_decode(const unsigned char *bytes, size_t count, int width, int height, unsigned char *rgb,
                       char *message, size_t message_size) {
  reader r = {.width = width, .height = height, .rgb = rgb, .message = message, .message_size = message_size};
  return run(&r, bytes, count, read_image);
}
