/* websocket - see websocket.h. */
#include "common/proxy/websocket.h"

#include <stdint.h>
#include <string.h>

#include "common/base/encode.h"

enum { SHA1_BLOCK_BYTES = 64, SHA1_BYTES = 20, KEY_MAX_BYTES = 64, CLOSE_REASON_MAX_BYTES = 123 };

/* ---- the accept key ---- */

static uint32_t rotate(uint32_t value, int bits)
{
    return (value << bits) | (value >> (32 - bits));
}

static void sha1_block(uint32_t state[5], const unsigned char *block)
{
    uint32_t words[80], a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];

    for (int i = 0; i < 16; i++) {
        words[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 |
                   (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
    }
    for (int i = 16; i < 80; i++) {
        words[i] = rotate(words[i - 3] ^ words[i - 8] ^ words[i - 14] ^ words[i - 16], 1);
    }
    for (int i = 0; i < 80; i++) {
        uint32_t f = i < 20   ? (b & c) | (~b & d)
                     : i < 40 ? b ^ c ^ d
                     : i < 60 ? (b & c) | (b & d) | (c & d)
                              : b ^ c ^ d;
        uint32_t k = i < 20   ? 0x5a827999U
                     : i < 40 ? 0x6ed9eba1U
                     : i < 60 ? 0x8f1bbcdcU
                              : 0xca62c1d6U;
        uint32_t next = rotate(a, 5) + f + e + k + words[i];

        e = d;
        d = c;
        c = rotate(b, 30);
        b = a;
        a = next;
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
    state[4] += e;
}

/* SHA-1 of at most two blocks less their padding. RFC 6455 asks for it; it keeps no secret here. */
static void sha1_short(const char *text, size_t length, unsigned char ret[SHA1_BYTES])
{
    uint32_t state[5] = {0x67452301U, 0xefcdab89U, 0x98badcfeU, 0x10325476U, 0xc3d2e1f0U};
    unsigned char blocks[2 * SHA1_BLOCK_BYTES] = {0};
    const size_t end = length + 9 > SHA1_BLOCK_BYTES ? sizeof(blocks) : SHA1_BLOCK_BYTES;

    memcpy(blocks, text, length);
    blocks[length] = 0x80;
    blocks[end - 2] = (unsigned char)(length * 8 >> 8);
    blocks[end - 1] = (unsigned char)(length * 8);
    for (size_t at = 0; at < end; at += SHA1_BLOCK_BYTES) {
        sha1_block(state, blocks + at);
    }
    for (int i = 0; i < SHA1_BYTES; i++) {
        ret[i] = (unsigned char)(state[i / 4] >> (24 - 8 * (i % 4)));
    }
}

void websocket_accept(const char *key, char ret[WEBSOCKET_ACCEPT_BYTES])
{
    static const char suffix[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    unsigned char hash[SHA1_BYTES];
    char text[KEY_MAX_BYTES + sizeof(suffix)];
    struct strbuf encoded;
    const size_t length = strnlen(key, KEY_MAX_BYTES);

    memcpy(text, key, length);
    memcpy(text + length, suffix, sizeof(suffix));
    sha1_short(text, length + sizeof(suffix) - 1, hash);
    strbuf_init(&encoded, WEBSOCKET_ACCEPT_BYTES);
    encode_base64(&encoded, hash, sizeof(hash));
    memcpy(ret, encoded.data, WEBSOCKET_ACCEPT_BYTES);
    strbuf_done(&encoded);
}

/* ---- frames ---- */

static bool is_control(unsigned opcode)
{
    return opcode >= WEBSOCKET_CLOSE;
}

static bool is_known(unsigned opcode)
{
    return opcode <= WEBSOCKET_BINARY || (opcode >= WEBSOCKET_CLOSE && opcode <= WEBSOCKET_PONG);
}

long websocket_parse(char *data, size_t length, struct websocket_frame *ret)
{
    const unsigned char *head = (const unsigned char *)data;
    size_t at = 2, bytes, size_bytes;

    if (length < 2) {
        return 0;
    }
    bytes = head[1] & 0x7f;
    size_bytes = bytes == 127 ? 8 : bytes == 126 ? 2 : 0;
    ret->is_final = (head[0] & 0x80) != 0;
    ret->opcode = (enum websocket_opcode)(head[0] & 0x0f);
    /* no extension was agreed on; a client masks; a control frame is short and whole */
    if ((head[0] & 0x70) != 0 || !is_known(head[0] & 0x0f) || (head[1] & 0x80) == 0 ||
        (is_control(head[0] & 0x0f) && (!ret->is_final || size_bytes > 0))) {
        return -1;
    }
    if (length < at + size_bytes) {
        return 0;
    }
    if (size_bytes > 0) {
        uint64_t size = 0;

        for (size_t i = 0; i < size_bytes; i++) {
            size = size << 8 | head[at + i];
        }
        if (size > WEBSOCKET_FRAME_MAX_BYTES) {
            return -1;
        }
        bytes = (size_t)size;
        at += size_bytes;
    }
    if (length < at + 4 + bytes) {
        return 0;
    }
    ret->data = data + at + 4;
    ret->bytes = bytes;
    for (size_t i = 0; i < bytes; i++) {
        ret->data[i] = (char)((unsigned char)ret->data[i] ^ head[at + i % 4]);
    }
    return (long)(at + 4 + bytes);
}

void websocket_put(struct strbuf *out, enum websocket_opcode opcode, const void *data, size_t bytes)
{
    char head[10] = {(char)(0x80 | (unsigned)opcode)};
    const size_t size_bytes = bytes > 65535 ? 8 : bytes > 125 ? 2 : 0;

    head[1] = (char)(size_bytes == 8 ? 127 : size_bytes == 2 ? 126 : (int)bytes);
    for (size_t i = 0; i < size_bytes; i++) {
        head[2 + i] = (char)(bytes >> (8 * (size_bytes - 1 - i)));
    }
    strbuf_append(out, head, 2 + size_bytes);
    strbuf_append(out, data, bytes);
}

void websocket_put_close(struct strbuf *out, int code, const char *reason)
{
    char data[2 + CLOSE_REASON_MAX_BYTES] = {(char)(code >> 8), (char)code};
    const size_t length = strnlen(reason, CLOSE_REASON_MAX_BYTES);

    memcpy(data + 2, reason, length);
    websocket_put(out, WEBSOCKET_CLOSE, data, 2 + length);
}
