"""langchain-huggingface."""

from langchain_huggingface import HuggingFaceEndpointEmbeddings
from report import KEY, TEXTS, URL, vectors

client = HuggingFaceEndpointEmbeddings(model=URL, huggingfacehub_api_token=KEY)
vectors("embed_documents", client.embed_documents(TEXTS))
vectors("embed_query", [client.embed_query(each) for each in TEXTS])
