#pragma once

#include <stdbool.h>
#include <stddef.h>

// JPEG, PNG and WebP decoders with one interface of two steps, and a PNG encoder.
//
// A decoder first reads the header, so that the caller can check the size before it allocates. It then decodes into a
// buffer of exactly width * height * 3 bytes (RGB, rows from the top), which the caller has set to zero.
//
// A decoder accepts the files that Pillow accepts, with the same pixels. In a damaged file they may be incomplete:
// missing pixels are black, as in Pillow.
//
// Every function returns true on success. Otherwise it returns false and writes a NUL-terminated text of at most
// message_size bytes; the content of the buffer is then unspecified. No function keeps a pointer, prints, or jumps
// past its caller: the setjmp and longjmp of libpng and libjpeg stay inside this target.

/// The size of an image, and the memory of its decoder.
typedef struct {
  int width;
  int height;
  /// Largest number of bytes that the decoder allocates, without the file and the decoded image.
  size_t working_bytes;
} pdrop_image_header;

bool pdrop_jpeg_read_header(const unsigned char *bytes, size_t count, pdrop_image_header *header, char *message,
                            size_t message_size);
bool pdrop_jpeg_decode(const unsigned char *bytes, size_t count, int width, int height, unsigned char *rgb,
                       char *message, size_t message_size);

bool pdrop_png_read_header(const unsigned char *bytes, size_t count, pdrop_image_header *header, char *message,
                           size_t message_size);
bool pdrop_png_decode(const unsigned char *bytes, size_t count, int width, int height, unsigned char *rgb,
                      char *message, size_t message_size);

/// The decoded image of an animation is its first frame on the canvas.
bool pdrop_webp_read_header(const unsigned char *bytes, size_t count, pdrop_image_header *header, char *message,
                            size_t message_size);
bool pdrop_webp_decode(const unsigned char *bytes, size_t count, int width, int height, unsigned char *rgb,
                       char *message, size_t message_size);

/// Decompresses zlib data into a buffer of `capacity` bytes; *written is set to the number of bytes.
///
/// Returns false for damaged data. Data that end early, or that are longer than the buffer, are not an error.
bool pdrop_inflate(const unsigned char *bytes, size_t count, unsigned char *target, size_t capacity, size_t *written);

/// Encodes an image of width * height * 3 bytes as a PNG file, with a Latin-1 description if it is not empty.
///
/// *count is set to the number of bytes written. A capacity that is too small is an error.
bool pdrop_png_encode(const unsigned char *rgb, int width, int height, const char *description, unsigned char *target,
                      size_t capacity, size_t *count, char *message, size_t message_size);
