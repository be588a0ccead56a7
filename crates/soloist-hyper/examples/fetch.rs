//! Fetches all pages of the command line at once. `https` needs the feature `tls`.

use http_body_util::BodyExt;
use soloist::{block_on, task::TaskGroup};

fn main() -> Result<(), soloist_hyper::Error> {
    block_on(async {
        let (client, pages) = (soloist_hyper::client(), TaskGroup::new());
        for url in std::env::args().skip(1) {
            let response = client.get(url.parse()?);
            pages.spawn(async move {
                let page = response.await?.into_body().collect().await?.to_bytes();
                println!("{url}: {} bytes", page.len());
                Ok::<_, soloist_hyper::Error>(())
            });
        }
        pages.join_all().await.map(drop)
    })
}
