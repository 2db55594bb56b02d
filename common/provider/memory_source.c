/* memory_source - see memory_source.h. */
#include "common/provider/memory_source.h"

#include <string.h>

long memory_source_read(void *arg, void *buf, size_t bytes)
{
    struct memory_source *source = arg;
    const size_t piece = bytes < source->left ? bytes : source->left;

    memcpy(buf, source->data, piece);
    source->data += piece;
    source->left -= piece;
    return (long)piece;
}
